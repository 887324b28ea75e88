//! TLS as the file configures it.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use rustls::{
    NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    Wrong,
    file::{File, TlsServer},
    read_file, wrong,
};
use crate::secret::Secret;

/// The oldest version first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];
/// Named as in Go, because the toolkit uses these names.
const CURVES: [(&str, NamedGroup); 3] = [
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// The TLS settings of connections.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    asks_for_certificates: bool,
}

impl Tls {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether clients without a certificate are rejected.
    pub(super) const fn asks_for_certificates(&self) -> bool {
        self.asks_for_certificates
    }
}

impl PartialEq for Tls {
    /// Equal only if read at the same time: keys are not compared.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("asks_for_certificates", &self.asks_for_certificates)
            .finish_non_exhaustive()
    }
}

/// The TLS settings, if the file has any. Relative paths start at the file's directory.
pub(super) fn tls(file: &File, directory: &Path) -> Result<Option<Tls>, Wrong> {
    let Some(said) = &file.tls else {
        return Ok(None);
    };
    if said.client_allowed_sans.is_some() {
        let why = "names of client certificates are not looked at here: have an authority of its own (client_ca_file) \
                   for those who may come";
        return Err(wrong("tls_server_config.client_allowed_sans", why));
    }
    let provider = Arc::new(provider(said)?);
    let verifier = verifier(said, directory, &provider)?;
    let asks_for_certificates = verifier.client_auth_mandatory();
    let (name, certificates) = pem("cert", &said.cert, &said.cert_file, directory)?;
    let certificates = certificates_of(&name, &certificates)?;
    let (key_name, key) = pem("key", &said.key, &said.key_file, directory)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong(key_name.clone(), format!("no private key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(said)?)
        .map_err(|error| wrong("tls_server_config", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| wrong(key_name, format!("it does not go with the certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = said.prefer_server_cipher_suites.unwrap_or(true);
    Ok(Some(Tls { config: Arc::new(config), asks_for_certificates }))
}

/// Ring's ciphers and curves, limited to the configured ones and in their order.
fn provider(said: &TlsServer) -> Result<CryptoProvider, Wrong> {
    let mut provider = ring::default_provider();
    if let Some(wanted) = said.cipher_suites.as_ref().filter(|wanted| !wanted.is_empty()) {
        let all = &provider.cipher_suites;
        // Rustls writes TLS13_ where others write TLS_.
        let name =
            |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
        let named: Vec<_> = all.iter().map(|suite| (name(suite), *suite)).collect();
        let chosen = choose("tls_server_config.cipher_suites", wanted, &named)?;
        // The ciphers of TLS 1.3 are all secure. As in Go, they are always enabled.
        let newer = all.iter().copied().filter(|suite| suite.tls13().is_some());
        let older = chosen.into_iter().filter(|suite| suite.tls13().is_none());
        provider.cipher_suites = newer.chain(older).collect();
    }
    if let Some(wanted) = said.curve_preferences.as_ref().filter(|wanted| !wanted.is_empty()) {
        let of = |group| provider.kx_groups.iter().copied().find(|known| known.name() == group);
        let named: Vec<_> = CURVES.iter().filter_map(|(name, group)| Some((*name, of(*group)?))).collect();
        provider.kx_groups = choose("tls_server_config.curve_preferences", wanted, &named)?;
    }
    Ok(provider)
}

fn choose<T: Copy, N: AsRef<str>>(key: &str, wanted: &[String], named: &[(N, T)]) -> Result<Vec<T>, Wrong> {
    let one = |name: &String| {
        let found = named.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<_> = named.iter().map(|(name, _)| name.as_ref()).collect();
            wrong(key, format!("\"{name}\" is not spoken here; there are: {}", known.join(", ")))
        })
    };
    wanted.iter().map(one).collect()
}

fn versions(said: &TlsServer) -> Result<Vec<&'static SupportedProtocolVersion>, Wrong> {
    let place = |key: &str, version: &Option<String>, default: usize| match version {
        None => Ok(default),
        Some(version) => VERSIONS.iter().position(|(name, _)| name == version).ok_or_else(|| {
            wrong(
                format!("tls_server_config.{key}"),
                format!("\"{version}\" is not spoken here; there are: TLS12, TLS13"),
            )
        }),
    };
    let oldest = place("min_version", &said.min_version, 0)?;
    let newest = place("max_version", &said.max_version, VERSIONS.len() - 1)?;
    match VERSIONS.get(oldest..=newest) {
        Some(versions) if !versions.is_empty() => Ok(versions.iter().map(|(_, version)| *version).collect()),
        Some(_) | None => Err(wrong("tls_server_config.min_version", "it is newer than max_version")),
    }
}

fn verifier(
    said: &TlsServer,
    directory: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let has_authority = !said.client_ca.reveal().is_empty() || !said.client_ca_file.as_os_str().is_empty();
    let key = "tls_server_config.client_auth_type";
    let is_needed = match said.client_auth_type.as_str() {
        "" | "NoClientCert" if has_authority => {
            return Err(wrong(key, "there is a client_ca, so say RequireAndVerifyClientCert"));
        }
        "" | "NoClientCert" => return Ok(WebPkiClientVerifier::no_client_auth()),
        "RequireAndVerifyClientCert" => true,
        "VerifyClientCertIfGiven" => false,
        "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
            let why = format!(
                "{} would take certificates of anybody and is not done here: say RequireAndVerifyClientCert",
                said.client_auth_type
            );
            return Err(wrong(key, why));
        }
        other => {
            let why = format!(
                "\"{other}\" is not one of: NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
            );
            return Err(wrong(key, why));
        }
    };
    let (name, authorities) = pem("client_ca", &said.client_ca, &said.client_ca_file, directory)?;
    let mut roots = RootCertStore::empty();
    for authority in certificates_of(&name, &authorities)? {
        roots.add(authority).map_err(|error| wrong(name.clone(), error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if is_needed { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| wrong(name, error.to_string()))
}

/// The text of `key`, or of the file `key_file`, and the name of the setting that was used.
fn pem(key: &str, text: &Secret, file: &Path, directory: &Path) -> Result<(String, Vec<u8>), Wrong> {
    let text = text.reveal();
    let (inline, named) = (format!("tls_server_config.{key}"), format!("tls_server_config.{key}_file"));
    match (text.is_empty(), file.as_os_str().is_empty()) {
        (true, true) => Err(wrong(named, "it is missing")),
        (false, false) => Err(wrong(inline, format!("there is {key}_file, too: say one of them"))),
        (false, true) => Ok((inline, text.as_bytes().to_vec())),
        (true, false) => {
            let path = directory.join(file);
            let read = read_file(&path)
                .map_err(|error| wrong(named.clone(), format!("{}: {error}", path.display())))?;
            if key == "key" && fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
                tracing::warn!(
                    "{} is a private key that everybody on this host may use: `chmod o= ` it",
                    path.display()
                );
            }
            Ok((named, read))
        }
    }
}

fn certificates_of(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(wrong(key, "no certificate in PEM")),
        Err(error) => Err(wrong(key, format!("no certificate in PEM: {error}"))),
    }
}
