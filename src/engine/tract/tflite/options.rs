//! Options of operators that are not TensorFlow Lite's own: a map in the flat notation called flexbuffers, of which numbers
//! and truth values under their names are read.

/// Most entries that are looked at.
const ENTRIES_MAX: usize = 64;

/// Bytes that hold a map.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    /// Where the values begin, how wide each is, and how many there are; the types follow them.
    values: usize,
    width: usize,
    count: usize,
    /// Where the keys begin, and how wide each is.
    keys: usize,
    key_width: usize,
}

impl<'a> Options<'a> {
    /// `None` where the bytes hold no map.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        /// The type of a map.
        const MAP: u8 = 9;
        // From the end: the width of the root, its type, and before these the root, which is the way back to the map.
        let &[.., kind, root_width] = bytes else { return None };
        let at = bytes.len().checked_sub(2 + usize::from(root_width))?;
        if kind >> 2 != MAP {
            return None;
        }
        let width = 1 << (kind & 3);
        let values = at.checked_sub(whole(bytes, at, root_width.into())?)?;
        // Before the values: the way back to the keys, their width, and the number of both.
        let field = |back: usize| whole(bytes, values.checked_sub(back * width)?, width);
        let (back, key_width, count) = (field(3)?, field(2)?, field(1)?);
        let keys = values.checked_sub(3 * width)?.checked_sub(back)?;
        (count <= ENTRIES_MAX).then_some(Self { bytes, values, width, count, keys, key_width })
    }

    /// The number under a name; a truth value is 0 or 1.
    pub fn number(&self, name: &str) -> Option<f64> {
        let index = (0..self.count).find(|&index| self.key(index) == Some(name.as_bytes()))?;
        let kind = *self.bytes.get(self.values + self.count * self.width + index)?;
        let at = self.values + index * self.width;
        let indirect = || Some((at.checked_sub(whole(self.bytes, at, self.width)?)?, 1 << (kind & 3)));
        match kind >> 2 {
            1 => signed(self.bytes, at, self.width),
            2 | 26 => Some(whole(self.bytes, at, self.width)? as f64),
            3 => real(self.bytes, at, self.width),
            6 => indirect().and_then(|(at, width)| signed(self.bytes, at, width)),
            7 => indirect().and_then(|(at, width)| Some(whole(self.bytes, at, width)? as f64)),
            8 => indirect().and_then(|(at, width)| real(self.bytes, at, width)),
            _ => None,
        }
    }

    fn key(&self, index: usize) -> Option<&'a [u8]> {
        let at = self.keys.checked_add(index * self.key_width)?;
        let start = at.checked_sub(whole(self.bytes, at, self.key_width)?)?;
        self.bytes.get(start..)?.split(|&byte| byte == 0).next()
    }
}

fn piece<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn whole(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    match width {
        1 => bytes.get(at).map(|&byte| byte.into()),
        2 => piece(bytes, at).map(|bytes| u16::from_le_bytes(bytes).into()),
        4 => usize::try_from(u32::from_le_bytes(piece(bytes, at)?)).ok(),
        8 => usize::try_from(u64::from_le_bytes(piece(bytes, at)?)).ok(),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn signed(bytes: &[u8], at: usize, width: usize) -> Option<f64> {
    match width {
        1 => piece(bytes, at).map(|bytes| i8::from_le_bytes(bytes).into()),
        2 => piece(bytes, at).map(|bytes| i16::from_le_bytes(bytes).into()),
        4 => piece(bytes, at).map(|bytes| i32::from_le_bytes(bytes).into()),
        8 => piece(bytes, at).map(|bytes| i64::from_le_bytes(bytes) as f64),
        _ => None,
    }
}

fn real(bytes: &[u8], at: usize, width: usize) -> Option<f64> {
    match width {
        4 => piece(bytes, at).map(|bytes| f32::from_le_bytes(bytes).into()),
        8 => piece(bytes, at).map(f64::from_le_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": 3, "b": 0.5, "c": true}` as the library of flexbuffers writes it.
    const MAP: &[u8] = include_bytes!("../../../../tests/tflite/options.bin");

    #[test]
    fn numbers_are_found_by_name() {
        let options = Options::read(MAP).unwrap();
        assert_eq!(["a", "b", "c", "d"].map(|name| options.number(name)), [Some(3.0), Some(0.5), Some(1.0), None]);
    }

    #[test]
    fn what_is_no_map_is_none_and_damage_is_harmless() {
        assert!(Options::read(&[]).is_none() && Options::read(&[0; 9]).is_none());
        for at in 0..MAP.len() {
            for byte in 0..=u8::MAX {
                let mut damaged = MAP.to_vec();
                damaged[at] = byte;
                if let Some(options) = Options::read(&damaged) {
                    let _ = options.number("b");
                }
            }
            let _ = Options::read(&MAP[..at]).map(|options| options.number("a"));
        }
    }
}
