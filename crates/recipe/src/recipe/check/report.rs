//! Checks of where a run is told.

use rekindle_track::{Credentials, TrackError};

use super::Problems;
use crate::recipe::Recipe;
use crate::recipe::report::UNQUOTED;

pub(super) fn check(recipe: &Recipe, problems: &mut Problems) {
    let Some(mlflow) = &recipe.report.mlflow else { return };
    match mlflow.server(Credentials::none()) {
        Ok(_) => {}
        Err(TrackError::Address { found, problem }) => {
            let found = format!("`{found}`, which {problem}");
            problems.add(UNQUOTED, found, "an address such as `http://localhost:5000`");
        }
        Err(error) => problems.add(UNQUOTED, error.to_string(), "another address"),
    }
    if mlflow.experiment.trim().is_empty() {
        problems.add("report.mlflow.experiment", "empty", "a name");
    }
    if mlflow.run_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        problems.add("report.mlflow.run_name", "empty", "a name, or no such key");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceError;

    fn problems(section: &str) -> (String, Vec<crate::Problem>) {
        let text = format!(
            "model = \"m\"\ndata.train = \"t\"\n[method.lora]\n[report.mlflow]\n{section}\n"
        );
        let recipe = Recipe::parse(&text, "a.toml").unwrap();
        (text, recipe.validate().err().unwrap_or_default())
    }

    #[test]
    fn an_address_of_another_kind_is_named_with_its_key() {
        for (address, wanted) in [
            ("sqlite:///runs.db", "is not of a server that speaks HTTP"),
            ("mlruns", "has no `http://`"),
            ("http://host?x=1", "holds a query"),
        ] {
            let (_, found) = problems(&format!("tracking_uri = \"{address}\""));
            assert_eq!(found.len(), 1, "{address}");
            assert_eq!(found[0].key, UNQUOTED);
            assert!(found[0].to_string().contains(wanted), "{}", found[0]);
        }
        assert_eq!(problems("").1, []);
    }

    #[test]
    fn a_password_in_the_address_is_not_quoted_with_its_line() {
        let (text, found) = problems("tracking_uri = \"http://jane:hunter2@host\"");
        assert_eq!(found.len(), 1);
        let shown = SourceError::from_problem(&text, "a.toml", &found[0]).render(false);
        assert!(shown.contains("holds a user name") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains(UNQUOTED), "{shown}");
    }

    #[test]
    fn empty_names_are_refused() {
        let (_, found) = problems("experiment = \"\"\nrun_name = \" \"");
        let keys: Vec<_> = found.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["report.mlflow.experiment", "report.mlflow.run_name"]);
    }
}
