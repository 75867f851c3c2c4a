//! Tensors as `.npy` files (numpy's format, NEP 1): how an input comes in and outputs go out when this program is
//! compared with another runtime. Only what a network takes and answers: little-endian f32 in C order.

use super::TensorView;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers are padded so that the data begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// A tensor that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// C order.
    pub data: Vec<f32>,
}

/// Reads a file's bytes.
///
/// # Errors
/// What is wrong with them: no `.npy` file, another number type or order, or not the data that the header announces.
pub fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let not_npy = || "not a .npy file".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(not_npy)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(not_npy)?;
    let (header_len, rest) = if version[0] == 1 {
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(not_npy)?;
        (usize::from(u16::from_le_bytes(*len)), rest)
    } else {
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(not_npy)?;
        (u32::from_le_bytes(*len) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(header_len).ok_or_else(not_npy)?;
    let header = std::str::from_utf8(header).map_err(|_| not_npy())?;
    let shape = shape(header)?;
    let expected = shape.iter().try_fold(4_usize, |bytes, &dim| bytes.checked_mul(dim));
    if expected != Some(data.len()) {
        return Err(format!("{} bytes of data do not fill the shape {shape:?} of float32", data.len()));
    }
    let data = data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect();
    Ok(Tensor { shape, data })
}

/// The shape in a header such as `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`.
fn shape(header: &str) -> Result<Vec<usize>, String> {
    let value = |key: &str| {
        let (_, value) = header.split_once(key).ok_or_else(|| format!("no {key} in the header {header:?}"))?;
        Ok::<_, String>(value.trim_start_matches([':', ' ']))
    };
    if !value("'descr'")?.starts_with("'<f4'") || !value("'fortran_order'")?.starts_with("False") {
        return Err(format!("expected float32 ('<f4') in C order, found {}", header.trim_end()));
    }
    let dims = value("'shape'")?.strip_prefix('(').and_then(|dims| dims.split_once(')'));
    let (dims, _) = dims.ok_or_else(|| format!("no shape in the header {header:?}"))?;
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    dims.map(|dim| dim.parse().map_err(|_| format!("{dim:?} is no dimension"))).collect()
}

/// The bytes of a file that holds `tensor`.
#[must_use]
pub fn format(tensor: TensorView<'_>) -> Vec<u8> {
    let dims: String = tensor.shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    // Magic, version, length of the header, the header, and the line feed that ends it.
    let len = (MAGIC.len() + 2 + 4 + header.len() + 1).next_multiple_of(ALIGNMENT) - MAGIC.len() - 2 - 4;
    header.push_str(&" ".repeat(len - 1 - header.len()));
    header.push('\n');
    let len = u32::try_from(len).expect("a header of a few dimensions is short");
    let mut bytes = [MAGIC, &[2, 0], &len.to_le_bytes(), header.as_bytes()].concat();
    bytes.extend(tensor.data.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As numpy 2.2 writes `np.array([[1, 2, 3]], np.float32)`, but for the spaces at the end of the header.
    fn numpys(descr: &str, shape: &str) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}          \n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([1.0_f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    #[test]
    fn numpys_files_are_read() {
        let tensor = parse(&numpys("<f4", "(1, 3)")).unwrap();
        assert_eq!(tensor, Tensor { shape: vec![1, 3], data: vec![1.0, 2.0, 3.0] });
        assert_eq!(parse(&numpys("<f4", "(3,)")).unwrap().shape, [3]);
    }

    #[test]
    fn what_is_written_reads_back_with_aligned_data() {
        for shape in [&[2, 2][..], &[4], &[1, 2, 1, 2]] {
            let data = [0.5, -1.0, f32::MAX, 0.0];
            let bytes = format(TensorView { shape, data: &data });
            assert_eq!((bytes.len() - 16) % ALIGNMENT, 0);
            assert_eq!(parse(&bytes).unwrap(), Tensor { shape: shape.to_vec(), data: data.to_vec() });
        }
    }

    #[test]
    fn other_files_are_errors() {
        for (bytes, why) in [
            (b"hello".to_vec(), "not a .npy"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "not a .npy"),
            (numpys("<f8", "(1, 3)"), "float32"),
            (numpys("<f4", "(1, 4)"), "do not fill"),
            (numpys("<f4", "(99999999999, 99999999999)"), "do not fill"),
            (numpys("<f4", "(-1, 3)"), "no dimension"),
            (numpys("<f4", "3"), "no shape"),
        ] {
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
