//! Compression and encryption of values beside the libraries that do them, bare: zstd and AES-256-GCM
//! over the same bytes, without segments, checksums, keys of their own and binding. Rounds take turns.
//! `cargo run --release -p sira-store --example seal_speed`

use std::io::Write;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sira_store::env::{Env, SystemEnv};
use sira_store::seal::{Binding, Keyring, SealOptions, seal};
use sira_store::{Bytes, CompressionType, EncryptionType, Version};

const ROUNDS: usize = 15;
/// Bytes of all values of one round.
const ROUND_BYTES: usize = 64 << 20;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Lines of a log with numbers in them: about 4 to 1 with zstd at level 1.
fn text(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 128);
    let mut state = 7_u64;
    while out.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (user, took) = (state >> 40, state >> 52);
        let line = format!(
            "{{\"time\":{},\"user\":\"u{user}\",\"path\":\"/v1/chat\",\"took_us\":{took}}}\n",
            out.len()
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(bytes);
    out
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Million bytes of values a second.
fn rate(times: usize, bytes: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = SystemEnv.monotonic();
    for _ in 0..times {
        run()?;
    }
    let seconds = (SystemEnv.monotonic() - begun).as_secs_f64();
    Ok((times * bytes) as f64 / 1e6 / seconds)
}

fn key() -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "no key")?;
    Ok(LessSafeKey::new(key))
}

fn lock(key: &LessSafeKey, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes).map_err(|_| "not locked")?;
    Ok(bytes)
}

fn unlock(key: &LessSafeKey, bytes: &mut [u8]) -> Result<usize> {
    let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
    Ok(key.open_in_place(nonce, Aad::empty(), bytes).map_err(|_| "not unlocked")?.len())
}

fn compare(out: &mut impl Write, bytes: usize) -> Result<()> {
    let value = text(bytes);
    let times = (ROUND_BYTES / bytes).max(1);
    let keyring = Keyring::new("k", Keyring::generate_key()?)?;
    let options = SealOptions {
        compression: CompressionType::Zstd,
        compression_level: Some(1),
        encryption: EncryptionType::Aes256Gcm { key_id: "k".into() },
    };
    let object = Binding { namespace: "n", key: "k", version: Version::from_u64(1) };
    let sealed = seal(&value, &options, &keyring, &object)?.ok_or("not sealed")?;
    let payload = sealed.payload.clone();
    let key = key()?;
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let mut unzstd = zstd::bulk::Decompressor::new()?;
    let locked = lock(&key, zstd.compress(&value)?)?;
    let mut figures: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        figures[0].push(rate(times, bytes, || lock(&key, zstd.compress(&value)?).map(drop))?);
        figures[1].push(rate(times, bytes, || {
            seal(&value, &options, &keyring, &object)?.ok_or("not sealed")?;
            Ok(())
        })?);
        figures[2].push(rate(times, bytes, || {
            let mut bytes = locked.clone();
            let length = unlock(&key, &mut bytes)?;
            let plain = unzstd.decompress(bytes.get(..length).ok_or("short")?, value.len())?;
            if plain.len() == value.len() { Ok(()) } else { Err("another value".into()) }
        })?);
        figures[3].push(rate(times, bytes, || {
            let plain: Bytes = sealed.seal.open(&payload, &keyring, &object)?;
            if plain.len() == value.len() { Ok(()) } else { Err("another value".into()) }
        })?);
    }
    let [bare_in, ours_in, bare_out, ours_out] = figures.map(median);
    writeln!(
        out,
        "{bytes:>9} bytes: libraries {bare_in:.0} MB/s, seal {ours_in:.0} MB/s, {:.2}x; libraries back \
         {bare_out:.0} MB/s, open {ours_out:.0} MB/s, {:.2}x",
        ours_in / bare_in,
        ours_out / bare_out,
    )?;
    Ok(())
}

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for bytes in [4 << 10, 64 << 10, 1 << 20, 16 << 20] {
        compare(&mut out, bytes)?;
    }
    Ok(())
}
