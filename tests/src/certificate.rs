//! A certificate for a server of a test, at 127.0.0.1.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::lab::run;

/// Both files, as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, which nobody else has signed.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes one in a directory, by openssl.
///
/// # Errors
/// openssl could not.
pub fn certificate(directory: &Path) -> Result<Certificate> {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test".split(' '),
    );
    // It is trusted as it is, and is no authority.
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    Ok(Certificate { certificate, key })
}
