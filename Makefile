# Shorthands; the work is in scripts/ and .ci/.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sira
export CARGO_TARGET_DIR := $(or $(SIRA_TARGET_DIR),$(CACHE)/target)

.PHONY: check test bench docs fmt ci

# The loop after an edit.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --quiet --workspace --lib --bins

# Every test.
test:
	scripts/test

# Speed, side by side with other engines and servers.
bench:
	scripts/bench

# API documentation, and the book where mdbook is installed.
docs:
	cargo doc --workspace --no-deps
	@if command -v mdbook >/dev/null; then mdbook build docs; else echo "mdbook is not installed: cargo install mdbook"; fi

fmt:
	cargo fmt --all

# What a change must pass.
ci:
	.ci/run
