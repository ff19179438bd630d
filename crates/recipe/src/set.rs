//! `--set train.learning_rate=3e-4`: assignments over the text of a recipe, comments kept.

use std::ops::Range;

use toml_edit::{DocumentMut, Item, Key, Table, TableLike, Value};

use crate::{
    position,
    recipe::{Recipe, VARIANT_TABLES},
    source_error::{self, SourceError},
};

/// Name of the source shown for an error in an assignment.
const SOURCE: &str = "--set";

/// The text with every `key=value` written into it, in order; later ones win.
///
/// A value is read as TOML; bare words become strings. A choice such as `method.full={}` takes the
/// place of the other choices of its table. Whether the keys exist is found by parsing the result:
/// [`parse`] does both.
///
/// # Errors
/// The text is not TOML, an assignment is not `key=value`, or a key runs through a value.
pub fn apply(text: &str, assignments: &[String]) -> Result<String, SourceError> {
    edit(text, "recipe", &read_all(assignments)?)
}

/// Reads a recipe with assignments written into it: the recipe and its edited text.
///
/// # Errors
/// Those of [`apply`] and [`Recipe::parse`]; what an assignment brought in is shown at the
/// assignment, all else at its place in `text`.
pub fn parse(
    text: &str,
    name: &str,
    assignments: &[String],
) -> Result<(Recipe, String), SourceError> {
    let assignments = read_all(assignments)?;
    if assignments.is_empty() {
        return Ok((Recipe::parse(text, name)?, text.to_owned()));
    }
    let edited = edit(text, name, &assignments)?;
    match Recipe::parse(&edited, name) {
        Ok(recipe) => Ok((recipe, edited)),
        Err(error) => Err(at_assignment(&edited, error, &assignments)),
    }
}

/// One `key=value`.
struct Assignment<'a> {
    source: &'a str,
    path: Vec<Key>,
    value: Value,
    /// Length of the key in the source, in bytes.
    key_len: usize,
}

fn read_all(assignments: &[String]) -> Result<Vec<Assignment<'_>>, SourceError> {
    assignments.iter().map(|source| read(source)).collect()
}

fn read(source: &str) -> Result<Assignment<'_>, SourceError> {
    let fail = |message: String, span: Range<usize>| {
        let help = "write `key=value`, such as `train.learning_rate=3e-4`";
        Err(SourceError::new(SOURCE, message).at(source, span, None).help(Some(help.into())))
    };
    let Some((key, value)) = source.split_once('=') else {
        return fail("the assignment has no `=`".into(), 0..source.len());
    };
    let path = match Key::parse(key) {
        Ok(path) => path,
        Err(_) => return fail(format!("`{}` is no key", key.trim()), 0..key.len()),
    };
    let Some(value) = read_value(value.trim()) else {
        let message = format!("the value of `{}` cannot be read", key.trim());
        return fail(message, key.len() + 1..source.len());
    };
    Ok(Assignment { source, path, value, key_len: key.len() })
}

/// TOML, or a bare word as a string; nothing if it is neither.
fn read_value(text: &str) -> Option<Value> {
    if let Ok(value) = text.parse::<Value>() {
        return Some(value);
    }
    let number = text.parse::<f64>().ok().filter(|_| !text.contains("infinity"));
    match (number, text.chars().next()?) {
        (Some(number), first) if !first.is_alphabetic() => Some(number.into()),
        // These begin TOML that went wrong.
        (_, '[' | '{' | '"' | '\'') => None,
        _ => Some(text.into()),
    }
}

fn edit(text: &str, name: &str, assignments: &[Assignment<'_>]) -> Result<String, SourceError> {
    let text = source_error::without_bom(text);
    source_error::check_size(text, name)?;
    let Ok(mut document) = text.parse::<DocumentMut>() else {
        // The reader of recipes says it better, and with the place.
        return match Recipe::parse(text, name) {
            Err(error) => Err(error),
            Ok(_) => Err(SourceError::new(name, "the text is no TOML that can be edited")),
        };
    };
    for assignment in assignments {
        let path: Vec<&str> = assignment.path.iter().map(Key::get).collect();
        drop_other_choices(document.as_table_mut(), &path);
        write(document.as_table_mut(), assignment)?;
    }
    Ok(document.to_string())
}

/// Removes the siblings of a choice: `[method.lora]` when `method.full` is written.
fn drop_other_choices(root: &mut Table, path: &[&str]) {
    for choice_table in VARIANT_TABLES {
        let Some([choice, ..]) = path.strip_prefix(choice_table) else { continue };
        let mut table: Option<&mut dyn TableLike> = Some(root);
        for name in choice_table {
            table = table.and_then(|table| table.get_mut(name)).and_then(Item::as_table_like_mut);
        }
        let Some(table) = table else { continue };
        let others: Vec<String> =
            table.iter().map(|(name, _)| name.to_owned()).filter(|name| name != choice).collect();
        for other in others {
            table.remove(&other);
        }
    }
}

fn write(root: &mut Table, assignment: &Assignment<'_>) -> Result<(), SourceError> {
    let (last, sections) = assignment.path.split_last().expect("a parsed key has a part");
    let mut table: &mut dyn TableLike = root;
    for (depth, section) in sections.iter().enumerate() {
        let item = table.entry(section.get()).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        table = match item.as_table_like_mut() {
            Some(table) => table,
            None => {
                let path: Vec<&str> = sections[..=depth].iter().map(Key::get).collect();
                let message = format!("`{}` is a value, not a section", path.join("."));
                let error = SourceError::new(SOURCE, message);
                return Err(error.at(assignment.source, 0..assignment.key_len, None));
            }
        };
    }
    match table.get_mut(last.get()) {
        Some(Item::Value(old)) => {
            let decor = old.decor().clone(); // the comment behind it
            *old = assignment.value.clone();
            *old.decor_mut() = decor;
        }
        _ => {
            table.insert(last.get(), as_section(assignment.value.clone()));
        }
    }
    Ok(())
}

/// An inline table is written as a section of its own, as everything else in a recipe.
fn as_section(value: Value) -> Item {
    match value {
        Value::InlineTable(table) => Item::Table(table.into_table()),
        other => Item::Value(other),
    }
}

/// Moves an error of the edited text to the assignment that brought it in.
fn at_assignment(edited: &str, error: SourceError, assignments: &[Assignment<'_>]) -> SourceError {
    let Some(place) = error.offset_in(edited).and_then(|at| position::place_at(edited, at)) else {
        return error;
    };
    for assignment in assignments.iter().rev() {
        let path: Vec<&str> = assignment.path.iter().map(Key::get).collect();
        let common = path.iter().zip(&place.path).take_while(|(ours, theirs)| ours == theirs);
        let common = common.count();
        let value = assignment.key_len + 1..assignment.source.len();
        let span = if common == place.path.len() && (place.is_key || common < path.len()) {
            key_part(assignment, common - 1)
        } else if common == path.len() {
            value
        } else {
            continue;
        };
        return error.moved_to(SOURCE, assignment.source, span);
    }
    error
}

/// Where one part of the key stands in the assignment, in bytes.
fn key_part(assignment: &Assignment<'_>, index: usize) -> Range<usize> {
    let key = &assignment.source[..assignment.key_len];
    let mut from = 0;
    for part in &assignment.path[..=index] {
        // Quoted parts stand in the source with their quotes; the name lies within.
        let start = from + key[from..].find(part.get()).unwrap_or(0);
        from = (start + part.get().len()).min(key.len());
        if std::ptr::eq(part, &assignment.path[index]) {
            return start..from;
        }
    }
    0..assignment.key_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Optimizer;

    const TEXT: &str = "\
# my run
model = \"m\" # the model

[data]
train = \"t\"

[method.lora]
r = 16

[train]
learning_rate = 2e-4 # peak

[train.schedule.cosine]
warmup_steps = 10
";

    fn set(assignments: &[&str]) -> Result<(Recipe, String), SourceError> {
        let assignments: Vec<String> = assignments.iter().map(|&text| text.into()).collect();
        parse(TEXT, "recipe.toml", &assignments)
    }

    fn rendered(assignment: &str) -> String {
        set(&[assignment]).unwrap_err().render(false)
    }

    #[test]
    fn values_change_and_comments_stay() {
        let assignments = ["train.learning_rate=3e-4".to_owned(), "seed=5".to_owned()];
        let edited = apply(TEXT, &assignments).unwrap();
        let expected = TEXT
            .replace("learning_rate = 2e-4 # peak", "learning_rate = 3e-4 # peak")
            .replace("# the model\n", "# the model\nseed = 5\n");
        assert_eq!(edited, expected);
    }

    #[test]
    fn bare_words_are_strings_and_the_rest_is_toml() {
        let (recipe, _) = set(&[
            "model=other/model.gguf",
            "data.format=alpaca",
            "train.optimizer.adamw.epsilon=.5",
            "method.lora.use_rslora=true",
            "method.lora.target_modules=[\"q_proj\"]",
            "output=\"a b\"",
        ])
        .unwrap();
        assert_eq!(recipe.model, std::path::Path::new("other/model.gguf"));
        assert_eq!(recipe.data.format, crate::recipe::RowFormat::Alpaca);
        let Optimizer::AdamW(adamw) = &recipe.train.optimizer else { panic!("wanted adamw") };
        assert_eq!(adamw.epsilon, 0.5);
        assert_eq!(recipe.output.as_deref(), Some(std::path::Path::new("a b")));
    }

    #[test]
    fn a_choice_takes_the_place_of_the_others() {
        let (recipe, text) =
            set(&["method.full={}", "train.schedule.linear.warmup_steps=3"]).unwrap();
        assert_eq!(recipe.method.unwrap().name(), "full");
        assert_eq!(recipe.train.schedule.name(), "linear");
        assert!(!text.contains("lora") && !text.contains("cosine"), "{text}");
        let (recipe, _) = set(&["train.schedule.constant={}"]).unwrap();
        assert_eq!(recipe.train.schedule.name(), "constant");
    }

    #[test]
    fn later_assignments_win() {
        let (recipe, _) = set(&["seed=1", "seed=2"]).unwrap();
        assert_eq!(recipe.seed, 2);
    }

    #[test]
    fn sections_that_are_missing_are_made() {
        let edited = apply("model = \"m\"\n", &["train.schedule.cosine.min_lr_ratio=0.1".into()]);
        let edited = edited.unwrap();
        assert_eq!(edited, "model = \"m\"\n\n[train.schedule.cosine]\nmin_lr_ratio = 0.1\n");
    }

    #[test]
    fn an_unknown_key_is_shown_in_the_assignment() {
        assert_eq!(
            rendered("train.lerning_rate=1e-4").lines().take(5).collect::<Vec<_>>().join("\n"),
            "error: unknown key `lerning_rate` in `[train]`\n\
             \x20--> --set:1:7\n\
             \x20 |\n\
             1 | train.lerning_rate=1e-4\n\
             \x20 |       ^^^^^^^^^^^^ did you mean `learning_rate`?"
        );
        assert!(rendered("trian.learning_rate=1e-4").contains("--set:1:1"));
        assert!(rendered("method.lroa.r=4").contains("did you mean `lora`?"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_shown_in_the_assignment() {
        let text = rendered("train.batch_size=many");
        assert!(text.contains("--set:1:18"), "{text}");
        assert!(text.contains("wanted a whole number"), "{text}");
        assert!(rendered("method.lora={ r = true }").contains("--set:1:13"));
    }

    #[test]
    fn an_error_of_the_file_stays_in_the_file() {
        let text = format!("{TEXT}speed = 1\n");
        let error = parse(&text, "recipe.toml", &["seed=1".into()]).unwrap_err();
        assert!(error.render(false).contains("recipe.toml:16:1"), "{error}");
        let error = parse("a = [", "recipe.toml", &["seed=1".into()]).unwrap_err();
        assert!(error.render(false).contains("recipe.toml:1:"), "{error}");
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        assert!(rendered("train").contains("has no `=`"));
        assert!(rendered("=3").contains("is no key"));
        assert!(rendered("a b=3").contains("`a b` is no key"));
        assert!(rendered("seed=").contains("cannot be read"));
        assert!(rendered("method.lora.target_modules=[1").contains("cannot be read"));
        assert!(rendered("model.x=1").contains("`model` is a value, not a section"));
    }
}
