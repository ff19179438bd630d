//! The address of a tracking server.

use crate::TrackError;

/// An `http` or `https` address without a closing slash, user name, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    pub fn parse(found: &str) -> Result<Self, TrackError> {
        let fault = |found: &str, problem| TrackError::Address { found: found.to_owned(), problem };
        let Some((scheme, rest)) = found.trim().split_once("://") else {
            // Such a text may be anything, a token pasted into the wrong place too.
            return Err(fault("…", "has no `http://` before its host"));
        };
        let rest = rest.trim_end_matches('/');
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if let Some((_, host)) = authority.rsplit_once('@') {
            let shown = format!("{scheme}://…@{host}");
            return Err(fault(&shown, "holds a user name; give it apart from the address"));
        }
        let shown = format!("{scheme}://{authority}");
        match scheme {
            "http" => {}
            "https" if cfg!(feature = "https") => {}
            "https" => {
                return Err(fault(&shown, "needs a build with the feature `https`"));
            }
            _ => return Err(fault(&shown, "is not of a server that speaks HTTP")),
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(fault(&shown, "names no host"));
        }
        if rest.contains(['?', '#']) || rest.contains(|c: char| c.is_whitespace()) {
            return Err(fault(&shown, "holds a query, a fragment or a space"));
        }
        Ok(Self(format!("{scheme}://{rest}")))
    }

    /// The address of an endpoint of the REST API, `experiments/create`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(address: &str) -> String {
        Address::parse(address).unwrap_err().to_string()
    }

    #[test]
    fn a_path_stays_and_a_closing_slash_goes() {
        let address = Address::parse("http://host:5000/ml/").unwrap();
        assert_eq!(address.endpoint("runs/get"), "http://host:5000/ml/api/2.0/mlflow/runs/get");
    }

    #[test]
    fn other_addresses_are_refused_with_the_reason() {
        assert!(problem("sqlite:///runs.db").contains("speaks HTTP"));
        assert!(problem("localhost:5000").contains("no `http://`"));
        assert!(problem("http://").contains("no host"));
        assert!(problem("http://host/?token=x").contains("query"));
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_shown() {
        let message = problem("http://jane:hunter2@host:5000");
        assert!(message.contains("user name") && !message.contains("hunter2"), "{message}");
        assert!(!problem("s3cret").contains("s3cret"));
        assert!(!problem("http://host?token=s3cret").contains("s3cret"));
    }

    #[test]
    fn https_needs_its_feature() {
        assert_eq!(Address::parse("https://host").is_ok(), cfg!(feature = "https"));
    }
}
