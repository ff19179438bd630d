//! Texts that end a generation.

/// Finds the first of some texts in one that comes in pieces.
///
/// What may be the beginning of such a text is held back until it is known not to be.
#[derive(Clone, Debug)]
pub struct StopTexts {
    stops: Vec<String>,
    held: String,
    found: bool,
}

impl StopTexts {
    /// A search for `stops`; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), found: false }
    }

    /// Takes the next piece and gives what of the text is certain to stand before any stop.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(first) = first {
            self.found = true;
            self.held.truncate(first);
            return std::mem::take(&mut self.held);
        }
        let starts = (0..self.held.len()).filter(|&at| self.held.is_char_boundary(at));
        let open = |&at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let kept = starts.into_iter().find(open).unwrap_or(self.held.len());
        let rest = self.held.split_off(kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether one of the texts has come.
    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }

    /// What was held back, once no more pieces come.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool, String) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut search = StopTexts::new(&stops);
        let given = pieces.iter().map(|piece| search.push(piece)).collect();
        (given, search.found(), search.finish())
    }

    #[test]
    fn a_stop_in_several_pieces_is_found_and_not_given() {
        let (given, found, _) = run(&["\nUser:"], &["Yes.", "\nUs", "er", ": no"]);
        assert_eq!(given, ["Yes.", "", "", ""]);
        assert!(found);
    }

    #[test]
    fn what_only_looks_like_a_stop_is_given_later() {
        let (given, found, rest) = run(&["STOP", "END"], &["a S", "TO", "W b E", "N"]);
        assert_eq!(given, ["a ", "", "STOW b ", ""]);
        assert!(!found);
        assert_eq!(rest, "EN");
    }

    #[test]
    fn of_two_stops_the_earlier_ends_the_text() {
        let (given, found, _) = run(&["b", "ab"], &["xaby"]);
        assert_eq!((given.as_slice(), found), (["x".to_owned()].as_slice(), true));
        assert_eq!(run(&[""], &["abc"]).0, ["abc"]);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(text in "[abé]{0,24}", stop in "[abé]{1,3}", cuts in 1usize..5) {
            let pieces: Vec<String> = text
                .chars()
                .collect::<Vec<char>>()
                .chunks(cuts)
                .map(|piece| piece.iter().collect())
                .collect();
            let mut search = StopTexts::new(std::slice::from_ref(&stop));
            let mut given: String = pieces.iter().map(|piece| search.push(piece)).collect();
            let found = search.found();
            given.push_str(&search.finish());
            prop_assert_eq!(found, text.contains(&stop));
            prop_assert_eq!(given.as_str(), text.split(&stop).next().unwrap_or_default());
        }
    }
}
