//! Sizes and rates that a camera offers, asked for within bounds and put into words.

use super::abi::{self, Device, Rates, Sizes};
use super::format::rate;

/// Most entries that are looked at: webcams list a few dozen sizes, each with up to ten rates.
const ENTRIES_MAX: u32 = 64;

/// Sizes of a pixel format.
pub fn sizes(device: &Device, pixel_format: u32) -> Vec<Sizes> {
    (0..ENTRIES_MAX).map_while(|index| abi::enum_sizes(device, pixel_format, index).ok()).collect()
}

/// Rates of a pixel format at a size.
pub fn rates(device: &Device, pixel_format: u32, size: [u32; 2]) -> Vec<Rates> {
    (0..ENTRIES_MAX).map_while(|index| abi::enum_rates(device, pixel_format, size, index).ok()).collect()
}

/// `640x480, 1280x720`, or `48x27 to 3840x2160`; empty where the driver says nothing.
pub fn sizes_text(sizes: &[Sizes]) -> String {
    let text = |sizes: &Sizes| match sizes {
        Sizes::One([width, height]) => format!("{width}x{height}"),
        Sizes::Range([width, height], [to_width, to_height]) => format!("{width}x{height} to {to_width}x{to_height}"),
    };
    sizes.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// `5, 10, 30`, or `1 to 60`: frames a second; empty where the driver says nothing that makes sense.
pub fn rates_text(rates: &[Rates]) -> String {
    // Two digits tell 29.97 from 30.
    let text = |fraction| rate(fraction).map(|rate| ((rate * 100.0).round() / 100.0).to_string());
    let text = |rates: &Rates| match rates {
        Rates::One(fraction) => text(*fraction),
        Rates::Range(shortest, longest) => Some(format!("{} to {}", text(*longest)?, text(*shortest)?)),
    };
    rates.iter().filter_map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_put_into_words() {
        let sizes = [Sizes::One([640, 480]), Sizes::Range([48, 27], [3840, 2160])];
        assert_eq!(sizes_text(&sizes), "640x480, 48x27 to 3840x2160");
        let rates = [Rates::One([1001, 30_000]), Rates::One([0, 0]), Rates::Range([1, 60], [1, 1])];
        assert_eq!(rates_text(&rates), "29.97, 1 to 60");
        assert_eq!(rates_text(&[]), "");
    }
}
