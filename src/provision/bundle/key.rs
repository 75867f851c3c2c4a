//! Keys: minisign's files, made where bundles are made.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minisign::{KeyPair, SecretKey, SecretKeyBox};

use super::Error;
use crate::durable;

/// Largest file of a secret key: minisign's have 300 bytes.
const KEY_BYTES_MAX: u64 = 4 << 10;

/// Where a new pair lies.
#[derive(Debug)]
pub struct KeyFiles {
    pub public: PathBuf,
    pub secret: PathBuf,
}

/// Makes a pair of keys in `BASE.pub` and `BASE.key`. The secret one is encrypted with a password that is asked for, unless
/// there is to be none.
///
/// # Errors
/// One of the files is there already, or cannot be written.
pub fn make_keys(base: &Path, password: bool) -> Result<KeyFiles, Error> {
    let named = |extension: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    let files = KeyFiles { public: named(".pub"), secret: named(".key") };
    if let Some(path) = [&files.public, &files.secret].into_iter().find(|path| path.exists()) {
        return Err(Error::Key { path: path.clone(), why: "is there already, and is not written over".into() });
    }
    let wrong = |error: minisign::PError| Error::Key { path: files.secret.clone(), why: error.to_string() };
    let pair =
        if password { KeyPair::generate_encrypted_keypair(None) } else { KeyPair::generate_unencrypted_keypair() };
    let KeyPair { pk, sk } = pair.map_err(wrong)?;
    let public = pk.to_box().map_err(wrong)?.to_bytes();
    let secret = sk.to_box(None).map_err(wrong)?.to_bytes();
    write_new(&files.secret, &secret, 0o600)?;
    if let Err(error) = write_new(&files.public, &public, 0o644) {
        let _ = fs::remove_file(&files.secret);
        return Err(error);
    }
    Ok(files)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(durable::Error::io(path, "created"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(durable::Error::io(path, "written"))?;
    Ok(())
}

/// Reads a secret key; of an encrypted one the password is asked for.
///
/// # Errors
/// It cannot be read, is no such file, or the password is wrong.
pub fn read_key(path: &Path) -> Result<SecretKey, Error> {
    let wrong = |why: String| Error::Key { path: path.into(), why };
    let bytes = durable::read_bounded(path, KEY_BYTES_MAX)?.ok_or_else(|| wrong("is not there".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is no text".into()))?;
    let read = || SecretKeyBox::from_string(&text);
    let plain = read().and_then(SecretKeyBox::into_unencrypted_secret_key);
    plain.or_else(|_| read().and_then(|key| key.into_secret_key(None))).map_err(|error| wrong(error.to_string()))
}
