//! Numbers of the extensions of a TLS hello that the code reads.

/// Extension `server_name` (RFC 6066, 3).
pub(super) const SERVER_NAME: u16 = 0;
/// Extension `signature_algorithms` (RFC 8446, 4.2.3).
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
/// Extension `application_layer_protocol_negotiation` (RFC 7301, 3.1).
pub(super) const ALPN: u16 = 16;
/// Extension `supported_versions` (RFC 8446, 4.2.1).
pub(super) const SUPPORTED_VERSIONS: u16 = 43;
