//! Which certificates are believed.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// TLS as a client that believes the system's authorities, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` instead, and those of
/// `caFile` besides.
pub(super) fn config(access: &Access) -> Result<ClientConfig, RemoteError> {
    let builder = builder()?;
    Ok(builder
        .with_root_certificates(roots(access)?)
        .with_no_client_auth())
}

/// TLS as a client that believes everybody.
pub(super) fn insecure() -> Result<ClientConfig, RemoteError> {
    let builder = builder()?;
    let provider = builder.crypto_provider().signature_verification_algorithms;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Everybody(provider)))
        .with_no_client_auth())
}

/// TLS as a client that believes nobody, for caches without TLS: no certificate needs to be read.
pub(super) fn nobody() -> Result<ClientConfig, RemoteError> {
    let builder = builder()?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, RemoteError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| RemoteError::new(RemoteErrorKind::Certificate, format!("set up TLS: {error}")))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(provider)
}

fn roots(access: &Access) -> Result<Arc<RootCertStore>, RemoteError> {
    let file = access.variable("SSL_CERT_FILE").map(Path::new);
    let directory = access.variable("SSL_CERT_DIR").map(Path::new);
    let base = if file.is_some() || directory.is_some() {
        let found = rustls_native_certs::load_certs_from_paths(file, directory);
        if found.certs.is_empty() {
            let cause = found
                .errors
                .first()
                .map_or("no certificate is there".to_owned(), ToString::to_string);
            return Err(unusable(
                "SSL_CERT_FILE or SSL_CERT_DIR",
                file.or(directory),
                &cause,
            ));
        }
        Arc::new(store(found.certs))
    } else {
        system()
    };
    let mut all = RootCertStore::clone(&base);
    let own = access.ca_file.as_deref().map(|path| ("caFile", path));
    // What Amazon's own tools call it; only caches in s3 are given it.
    let amazon = access
        .setting("AWS_CA_BUNDLE")
        .map(|path| ("AWS_CA_BUNDLE", Path::new(path)));
    for (setting, path) in own.into_iter().chain(amazon) {
        let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
        let (added, _) = all.add_parsable_certificates(found.certs);
        if added == 0 {
            let cause = found
                .errors
                .first()
                .map_or("no certificate is in it".to_owned(), ToString::to_string);
            return Err(unusable(setting, Some(path), &cause));
        }
    }
    Ok(Arc::new(all))
}

fn unusable(setting: &str, path: Option<&Path>, cause: &str) -> RemoteError {
    let place = path
        .map(|path| format!(" '{}'", path.display()))
        .unwrap_or_default();
    RemoteError::new(
        RemoteErrorKind::Certificate,
        format!("read the certificates of {setting}{place}: {cause}"),
    )
}

/// Read once for each process.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| Arc::new(store(rustls_native_certs::load_native_certs().certs)));
    Arc::clone(system)
}

fn store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    store
}

/// Checks that the other side holds the key of its certificate, and not whose certificate it is.
#[derive(Debug)]
struct Everybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
