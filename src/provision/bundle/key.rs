//! Keys: minisign's files, made where bundles are made.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, SecretKey, SecretKeyBox};

use super::Error;
use crate::durable;

/// Largest file of a secret key: minisign's have 300 bytes.
const KEY_BYTES_MAX: u64 = 4 << 10;
/// With which such a file ends: BLAKE2b-256.
const CHECKSUM_BYTES: usize = 32;

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
    let pair = if password {
        let password = ask(&files.secret, "Password")?;
        if password != ask(&files.secret, "The same password")? {
            return Err(Error::Password { path: files.secret, why: "the two that were given differ".into() });
        }
        KeyPair::generate_encrypted_keypair(Some(password))
    } else {
        KeyPair::generate_unencrypted_keypair()
    };
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

/// Reads a secret key; of an encrypted one the password is asked for on the terminal.
///
/// # Errors
/// It cannot be read, is no such file, or the password is wrong or cannot be asked for.
pub fn read_key(path: &Path) -> Result<SecretKey, Error> {
    let wrong = |why: String| Error::Key { path: path.into(), why };
    let refused = |error: minisign::PError| wrong(error.to_string());
    let bytes = durable::read_bounded(path, KEY_BYTES_MAX)?.ok_or_else(|| wrong("is not there".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is no text".into()))?;
    let encoded = text.lines().nth(1).unwrap_or_default();
    let bytes = STANDARD.decode(encoded.trim()).map_err(|error| wrong(error.to_string()))?;
    let key = SecretKey::from_bytes(&bytes).map_err(refused)?;
    let whole = SecretKeyBox::from_string(&text).map_err(refused)?;
    if key.is_encrypted() {
        let wrong = |error: minisign::PError| Error::Password { path: path.into(), why: error.to_string() };
        return whole.into_secret_key(Some(ask(path, "Password")?)).map_err(wrong);
    }
    // `minisign -W` leaves the checksum empty, which the library takes for damage.
    if bytes.ends_with(&[0; CHECKSUM_BYTES]) { Ok(key) } else { whole.into_unencrypted_secret_key().map_err(refused) }
}

fn ask(path: &Path, what: &str) -> Result<String, Error> {
    let unasked = |error| Error::Password { path: path.into(), why: format!("it cannot be asked for here: {error}") };
    rpassword::prompt_password(format!("{what} of {}: ", path.display())).map_err(unasked)
}
