//! The suite fails every broken backend, and in the case that is about what it breaks.

use std::time::Duration;

use sira_store::conformance::{self, ConformanceOptions, ConformanceReport};

use super::broken::{Broken, Fault};

async fn run(fault: Fault, only: &str) -> ConformanceReport {
    let options = ConformanceOptions {
        only: Some(only.to_owned()),
        case_time_max: Duration::from_secs(5),
        ttl: Duration::from_millis(100),
        ..ConformanceOptions::default()
    };
    conformance::run(Broken::new(fault), options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_it_conforms() {
    run(Fault::None, "").await.into_result().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_run_is_no_proof() {
    assert!(run(Fault::None, "no such case").await.into_result().is_err());
}

macro_rules! found_in {
    ($($fault:ident, $test:ident: $case:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let report = run(Fault::$fault, $case).await;
                let failed: Vec<_> = report.failed.iter().map(|failure| failure.case).collect();
                assert!(failed.contains(&$case), "{report}");
            }
        )*
    };
}

found_in! {
    ConditionCheckedApart, condition_checked_apart: "conditions/race_to_create";
    ConditionCheckedApart, condition_checked_apart_on_replace: "conditions/race_to_replace";
    ConditionCheckedApart, condition_checked_apart_on_count: "conditions/counter";
    ConditionIgnoredOnRemoval, condition_ignored_on_removal: "conditions/of_removals";
    ConditionIgnoredOnRemoval, condition_ignored_in_race: "conditions/race_to_remove";
    ConditionIgnoredOnRead, condition_ignored_on_read: "conditions/of_reads";
    ConditionIgnoredInBatch, condition_ignored_in_batch: "batches/conditions";
    ConditionIgnoredInBatch, condition_ignored_in_racing_batches: "batches/racing";
    ChecksIgnored, checks_ignored: "checks/demands";
    ChecksApart, checks_apart: "checks/racing";
    ChecksIgnored, checks_ignored_by_transactions: "transactions/serializable";
    ConditionIgnoredInBatch, writes_of_transactions_lost: "transactions/serializable";
    ListedIgnored, listed_ignored: "transactions/listed";
    ListedCutIgnored, listed_cut_ignored: "transactions/listed";
    ListedApart, listed_apart: "transactions/phantoms";
    PartsApart, parts_apart: "transactions/apart";
    ChecksElsewhereIgnored, checks_elsewhere_ignored: "transactions/apart";
    ConditionIgnoredOnRemovalInBatch, condition_ignored_on_removal_in_batch: "checks/demands";
    ConditionErrorOfAnotherKind, condition_error_of_another_kind: "conditions/of_writes";
    WriteBeforeRefusal, write_before_refusal: "conditions/of_writes";
    TtlIgnored, ttl_ignored: "expiry/exact";
    TtlCutShort, ttl_cut_short: "expiry/told";
    TtlSurvivesOverwrite, ttl_survives_overwrite: "expiry/replaced";
    TtlZeroTaken, ttl_zero_taken: "expiry/edges";
    TtlRoundedDown, ttl_rounded_down: "expiry/told";
    ExpiredListed, expired_listed: "expiry/exact";
    RangeOffByOne, range_off_by_one: "ranges/cut";
    RangePastTheEndTaken, range_past_the_end_taken: "ranges/refused";
    RangeOfTheWhole, range_of_the_whole: "ranges/cut";
    LargeValuesCut, large_values_cut: "values/sizes";
    EmptyIsAbsent, empty_is_absent: "values/empty";
    TextOnly, text_only: "values/binary";
    MetadataDropped, metadata_dropped: "metadata/kept";
    MetadataKeptOnOverwrite, metadata_kept_on_overwrite: "metadata/replaced";
    LongKeysTaken, long_keys_taken: "keys/refused";
    LongKeysCut, long_keys_cut: "keys/longest";
    KeysFolded, keys_folded: "keys/odd";
    KeysEndAtNul, keys_end_at_nul: "keys/apart";
    KeysAsPaths, keys_as_paths: "keys/odd";
    VersionOfAnother, version_of_another: "versions/told";
    VersionsRepeat, versions_repeat: "versions/grow";
    VersionsRepeat, versions_repeat_in_race: "versions/unique";
    ExactVersionIgnored, exact_version_ignored: "versions/exact";
    ExactVersionIgnored, exact_version_ignored_when_refused: "versions/exact_refused";
    ExactVersionIgnored, exact_version_ignored_with_a_condition: "versions/exact_is_no_condition";
    ExactVersionIgnoredInBatch, exact_version_ignored_in_batch: "versions/exact_in_batches";
    OlderVersionTaken, older_version_taken: "versions/exact";
    OlderVersionTaken, older_version_taken_in_race: "versions/exact_in_race";
    ExpiryTimeIgnored, expiry_time_ignored: "expiry/at";
    DeleteAlwaysTrue, delete_always_true: "versions/delete_says_what_was_there";
    DeleteNever, delete_never: "versions/delete_says_what_was_there";
    HeadOfAnotherSize, head_of_another_size: "values/empty";
    ListUnordered, list_unordered: "listing/ordered";
    ListIncomplete, list_incomplete: "listing/ordered";
    ListRepeats, list_repeats: "listing/paged";
    ListRepeats, list_repeats_while_writing: "listing/while_writing";
    ListAfterIsInclusive, list_after_is_inclusive: "listing/start_after";
    ListIgnoresDelimiter, list_ignores_delimiter: "listing/delimiter";
    ListNeverEnds, list_never_ends: "listing/paged";
    ListOverLimit, list_over_limit: "listing/paged";
    ListByPrefixOfWords, list_by_prefix_of_words: "listing/prefix";
    BatchStopsHalfway, batch_stops_halfway: "batches/all_or_nothing";
    BatchSeenHalf, batch_seen_half: "batches/seen_whole";
    BatchSeenHalf, batch_cancelled_half: "cancellation/batch";
    BatchReadsBefore, batch_reads_before: "batches/in_order";
    BatchWithoutLimit, batch_without_limit: "batches/refused";
    BatchAnswersShort, batch_answers_short: "batches/answers";
    NamespacesShared, namespaces_shared: "namespaces/apart";
    NamespaceNamesTaken, namespace_names_taken: "namespaces/refused";
    PutInTwoSteps, put_in_two_steps: "cancellation/put";
    PutInTwoSteps, put_in_two_steps_is_read: "values/whole_while_overwritten";
    PutInBackground, put_in_background: "cancellation/put";
    PutInBackground, put_in_background_is_missed: "values/binary";
    LockLeaks, lock_leaks: "cancellation/put";
    StreamKeepsWhatCame, stream_keeps_what_came: "values/failed_stream";
    StreamStoredWhenDropped, stream_stored_when_dropped: "cancellation/stream";
    CompressionNotUndone, compression_not_undone: "answers/options";
    Panics, panics: "values/empty";
    Hangs, hangs: "values/empty";
    AlwaysCritical, always_critical: "answers/stats_and_health";
}
