//! A certificate that weir signs itself, for development: browsers warn of it once, and give cameras to the page then.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws_lc_rs::digest;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::warn;

/// Where it is kept inside the data folder, so that a browser that was told to trust it does so after a restart.
const FOLDER: &str = "tls";
/// Key and certificate in one PEM file.
const FILE: &str = "self-signed.pem";
/// How long it is valid: what Apple's systems take at most.
const LIFETIME: Duration = Duration::from_secs(397 * 24 * 3600);
/// How long before its end a new one is made at start.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long ago its validity begins: clocks differ.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The PEM text of a certificate for `names` and of its key.
pub(super) fn load_or_make(data_dir: &Path, names: &[String]) -> anyhow::Result<Vec<u8>> {
    let folder = data_dir.join(FOLDER);
    let path = folder.join(FILE);
    let now = SystemTime::now();
    let kept = fs::metadata(&path).ok().filter(|found| found.len() <= MAX_FILE_BYTES);
    if let Some(pem) = kept.and_then(|_| fs::read(&path).ok()).filter(|pem| fits(pem, names, now)) {
        return Ok(pem);
    }
    let pem = make(names, now)?;
    // The server runs without, and the next start makes another one.
    if let Err(error) = keep(&folder, &path, &pem) {
        warn!(%error, "the self-signed certificate can't be kept in {}", path.display());
    }
    Ok(pem)
}

fn keep(folder: &Path, path: &Path, pem: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(pem)?;
    fs::rename(new, path)
}

fn make(names: &[String], now: SystemTime) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::new(names).context("a name can't be in a certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "weir (self-signed)");
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LIFETIME).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().context("no key can be made")?;
    let certificate = params.self_signed(&key).context("no certificate can be made")?;
    Ok(format!("{}{}{}", about(names, now + LIFETIME), certificate.pem(), key.serialize_pem()).into_bytes())
}

/// The first line of the file, which PEM readers skip: what would have to be parsed out of the certificate otherwise.
fn about(names: &[String], until: SystemTime) -> String {
    let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{}, until {until}\n", names.join(" "))
}

/// Whether the kept file is for these names and still valid for a while.
fn fits(pem: &[u8], names: &[String], now: SystemTime) -> bool {
    let first = pem.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let Some((of, until)) = first.split_once(", until ") else { return false };
    let until =
        until.parse().ok().and_then(|secs| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secs)));
    of == names.join(" ") && until.is_some_and(|until| now + RENEW_BEFORE < until)
}

/// What browsers show of a certificate to compare it by.
pub(super) fn fingerprint(key: &CertifiedKey) -> String {
    let certificate = key.cert.first().map_or(&[][..], |certificate| certificate.as_ref());
    let hash = digest::digest(&digest::SHA256, certificate);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn it_is_kept_until_the_names_change_or_it_nearly_ends() {
        let folder = tempfile::tempdir().unwrap();
        let home = names(&["localhost", "127.0.0.1"]);
        let first = load_or_make(folder.path(), &home).unwrap();
        assert_eq!(load_or_make(folder.path(), &home).unwrap(), first);
        let later = SystemTime::now() + LIFETIME - RENEW_BEFORE + Duration::from_secs(60);
        assert!(fits(&first, &home, SystemTime::now()) && !fits(&first, &home, later));
        let moved = load_or_make(folder.path(), &names(&["localhost", "192.0.2.1"])).unwrap();
        assert_ne!(moved, first);
    }

    #[test]
    fn a_broken_file_is_replaced_and_nobody_else_may_read_the_key() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FOLDER).join(FILE);
        for broken in
            [&b""[..], b"localhost, until soon\n", b"\xFF\n", b"localhost, until 99999999999999999999\n"]
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, broken).unwrap();
            let made = load_or_make(folder.path(), &names(&["localhost"])).unwrap();
            assert_eq!(fs::read(&path).unwrap(), made);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
