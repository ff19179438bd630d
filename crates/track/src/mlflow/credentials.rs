//! How a client logs in, kept out of every output.

use std::fmt;

use crate::TrackError;

/// A user name and password, or a token. `Debug` shows neither.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The value of the header `Authorization`.
    header: Option<String>,
}

impl Credentials {
    /// For servers that ask for nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is given of the three, in MLflow's order: user name and password before the token.
    ///
    /// A user name without a password, or the reverse, counts as not given.
    pub fn new(
        username: Option<&str>,
        password: Option<&str>,
        token: Option<&str>,
    ) -> Result<Self, TrackError> {
        match (username, password, token) {
            (Some(username), Some(password), _) => Self::basic(username, password),
            (_, _, Some(token)) => Self::token(token),
            _ => Ok(Self::none()),
        }
    }

    /// A user name and a password. RFC 7617: the name has no colon.
    pub fn basic(username: &str, password: &str) -> Result<Self, TrackError> {
        let controls = |text: &str| text.contains(|c: char| c.is_control());
        if username.is_empty() || username.contains(':') || controls(username) {
            return Err(TrackError::Credentials { which: "user name" });
        }
        if controls(password) {
            return Err(TrackError::Credentials { which: "password" });
        }
        let pair = base64(format!("{username}:{password}").as_bytes());
        Ok(Self { header: Some(format!("Basic {pair}")) })
    }

    /// A bearer token.
    pub fn token(token: &str) -> Result<Self, TrackError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TrackError::Credentials { which: "token" });
        }
        Ok(Self { header: Some(format!("Bearer {token}")) })
    }

    /// The header to send.
    pub(super) fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.header.is_some() { "Credentials(…)" } else { "Credentials(none)" })
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = (group >> (18 - 6 * at)) & 63;
            let padding = at > chunk.len();
            text.push(if padding { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_pair_goes_before_a_token_and_half_a_pair_does_not_count() {
        let header = |c: Result<Credentials, _>| c.unwrap().header().map(str::to_owned);
        let both = header(Credentials::new(Some("Aladdin"), Some("open sesame"), Some("t")));
        assert_eq!(both.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(header(Credentials::new(Some("x"), None, Some("t"))).unwrap(), "Bearer t");
        assert_eq!(header(Credentials::new(Some("x"), None, None)), None);
    }

    #[test]
    fn debug_and_errors_hold_no_secret() {
        let shown = format!("{:?}", Credentials::token("s3cret").unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        let server = crate::Server::new("http://host", Credentials::token("s3cret").unwrap());
        assert!(!format!("{:?}", server.unwrap()).contains("s3cret"));
        for error in [Credentials::token("s3cret\n"), Credentials::basic("a:b", "s3cret")] {
            assert!(!error.unwrap_err().to_string().contains("s3cret"));
        }
    }
}
