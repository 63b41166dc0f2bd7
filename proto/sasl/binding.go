package sasl

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 of certificates
	"crypto/tls"
	"crypto/x509"
)

// The types of channel binding that can be had:
//
//   - tls-exporter (RFC 9266): with TLS 1.3, and with an older TLS where the
//     extended master secret is in use;
//   - tls-unique (RFC 5929 §3): with TLS 1.2, but not in a resumed session
//     without the extended master secret, which a man in the middle could
//     have made equal on both of his sides;
//   - tls-server-end-point (RFC 5929 §4): where it is known which of our
//     certificates the client has seen.
//
// crypto/tls gives nothing where it would not be sound.

// binding returns the data of a channel binding; nil if this connection has
// none of the type.
func (o *Options) binding(kind string, conn *tls.ConnectionState) []byte {
	if conn == nil {
		return nil
	}
	switch kind {
	case "tls-exporter":
		return exported(conn)
	case "tls-unique":
		return conn.TLSUnique
	case "tls-server-end-point":
		if o.Shown == nil {
			return nil
		}
		return endPoint(o.Shown(conn.ServerName))
	}
	return nil
}

// canBind says whether there is any.
func canBind(conn *tls.ConnectionState) bool {
	return conn != nil && (exported(conn) != nil || conn.TLSUnique != nil)
}

// exported is 32 octets of keying material without context (RFC 9266 §2).
func exported(conn *tls.ConnectionState) []byte {
	if !conn.HandshakeComplete {
		return nil
	}
	data, err := conn.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return data
}

// endPoint is the hash of a certificate, by the hash of its signature but by
// no weaker one than SHA-256; nil where the signature has no single hash (RFC
// 5929 §4.1).
func endPoint(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	var h crypto.Hash
	switch c.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil
	}
	digest := h.New()
	digest.Write(c.Raw)
	return digest.Sum(nil)
}
