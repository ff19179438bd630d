//! A line of the spool.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most metrics in a line, so that a line fits into a request with its neighbours.
pub const METRICS_A_LINE: usize = 200;

/// Most parameters in a line.
pub const PARAMS_A_LINE: usize = 20;

/// One thing to tell the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// What the run is called; the first line.
    Run {
        /// Tells this run from every other one, so that it is made once.
        spool_id: String,
        experiment: String,
        run_name: String,
        time_ms: i64,
        tags: Vec<(String, String)>,
    },
    Params {
        values: Vec<(String, String)>,
    },
    Metrics {
        step: u64,
        time_ms: i64,
        values: Vec<(String, Number)>,
    },
    Tags {
        values: Vec<(String, String)>,
    },
    Status {
        status: Status,
        time_ms: i64,
    },
}

/// How MLflow calls the state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Running,
    Finished,
    Failed,
    Killed,
}

/// A value as JSON has it: those that JSON cannot write are text, as protocol buffers do it.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_nan() => to.serialize_str("NaN"),
            f64::INFINITY => to.serialize_str("Infinity"),
            f64::NEG_INFINITY => to.serialize_str("-Infinity"),
            value => to.serialize_f64(value),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Finite(f64),
            Other(String),
        }
        match Written::deserialize(from)? {
            Written::Finite(value) => Ok(Self(value)),
            Written::Other(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "Infinity" => Ok(Self(f64::INFINITY)),
                "-Infinity" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(serde::de::Error::custom("wanted a number, `NaN` or `Infinity`")),
            },
        }
    }
}

/// Seconds since 1970 as MLflow counts them; what is no time is 0.
pub fn milliseconds(seconds: f64) -> i64 {
    // A cast from a float saturates and turns NaN into 0.
    ((seconds * 1e3).round() as i64).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_valid_json_and_come_back() {
        let values =
            [1.5, 0.1 + 0.2, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];
        for value in values {
            let text = serde_json::to_string(&Number(value)).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
            let back: Number = serde_json::from_str(&text).unwrap();
            assert!(back == Number(value) || (back.0.is_nan() && value.is_nan()), "{text}");
        }
        assert!(serde_json::from_str::<Number>("\"nought\"").is_err());
    }

    #[test]
    fn times_are_whole_milliseconds_and_never_negative() {
        assert_eq!(milliseconds(1.2345), 1235);
        assert_eq!(milliseconds(-1.0), 0);
        assert_eq!(milliseconds(f64::NAN), 0);
    }
}
