//! Seeded damage to bytes, so that a failure repeats.

pub use firstlight::random::Random;
use serde_json::{Value, json};

/// A sample, or fifty times as many under `FIRSTLIGHT_FULL`.
pub fn rounds(sample: usize) -> usize {
    if std::env::var_os("FIRSTLIGHT_FULL").is_some() { sample * 50 } else { sample }
}

/// One to eight wounds: flipped bits, overwritten runs, removed or repeated pieces, a cut end.
pub fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(8) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(6) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at..end].fill([0x00, 0x7F, 0x80, 0xFF][random.below(4)]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(bytes.len() - random.below(bytes.len() / 8 + 1)),
        }
    }
    bytes
}

/// Puts something that does not belong there in one place of a JSON document.
pub fn deface(value: &mut Value, random: &mut Random) {
    let inside = random.below(4) > 0;
    match value {
        Value::Object(map) if inside && !map.is_empty() => {
            let at = random.below(map.len());
            deface(map.values_mut().nth(at).expect("it has so many"), random);
        }
        Value::Array(list) if inside && !list.is_empty() => {
            let at = random.below(list.len());
            deface(&mut list[at], random);
        }
        _ => *value = nasty(random),
    }
}

fn nasty(random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!("../../etc/passwd"),
        5 => json!("x".repeat(100_000)),
        6 => json!(vec![0; 10_000]),
        7 => (0..100).fold(json!({}), |deep, _| json!({ "deep": deep })),
        8 => json!("\u{0}/\u{202e}"),
        _ => json!(true),
    }
}
