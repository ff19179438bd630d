use super::reader::{Field, fields, records};
use super::*;

/// Every scalar of a file as step, tag and value.
fn scalars(bytes: &[u8]) -> Vec<(u64, String, f32)> {
    let mut found = Vec::new();
    for event in records(bytes).unwrap() {
        let event = fields(event);
        let step = event.iter().find_map(|field| match field {
            (2, Field::Integer(step)) => Some(*step),
            _ => None,
        });
        let summaries = event.iter().filter(|(number, _)| *number == 5);
        for value in summaries.flat_map(|(_, summary)| inner(summary)) {
            if let [(1, Field::Bytes(tag)), (2, Field::Float(number))] = inner(&value.1)[..] {
                let tag = String::from_utf8(tag.to_vec()).unwrap();
                found.push((step.unwrap(), tag, number));
            }
        }
    }
    found
}

fn inner<'a>(field: &Field<'a>) -> Vec<(u64, Field<'a>)> {
    let Field::Bytes(bytes) = field else { panic!("{field:?} is no message") };
    fields(bytes)
}

#[test]
fn scalars_come_back_in_order_and_not_a_number_stays_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::open(folder.path(), 0).unwrap();
    board.scalars(1, 10.0, &[("loss", 2.5), ("rate", 1e-3)]).unwrap();
    board.scalars(300, 11.0, &[("loss", f64::NAN), ("rate", f64::INFINITY)]).unwrap();
    board.flush().unwrap();
    let found = scalars(&fs::read(board.path()).unwrap());
    let steps: Vec<u64> = found.iter().map(|(step, ..)| *step).collect();
    assert_eq!(steps, [1, 1, 300, 300]);
    assert_eq!(found[0], (1, "loss".to_owned(), 2.5));
    assert_eq!(found[1], (1, "rate".to_owned(), 1e-3));
    assert!(found[2].2.is_nan());
    assert_eq!(found[3].2, f32::INFINITY);
}

#[test]
fn a_torn_last_record_leaves_those_before_it_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::open(folder.path(), 0).unwrap();
    board.scalars(1, 0.0, &[("loss", 1.0)]).unwrap();
    board.flush().unwrap();
    let whole = fs::read(board.path()).unwrap();
    board.scalars(2, 0.0, &[("loss", 2.0)]).unwrap();
    board.flush().unwrap();
    let longer = fs::read(board.path()).unwrap();
    for cut in whole.len()..longer.len() {
        assert_eq!(scalars(&longer[..cut]).len(), 1, "cut at {cut}");
    }
    let mut damaged = longer;
    damaged[whole.len() - 6] ^= 1;
    assert!(records(&damaged).is_none());
}

#[test]
fn each_file_begins_with_its_version_and_the_step_from_which_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let first = TensorBoard::open(folder.path(), 0).unwrap().path().to_owned();
    let second = TensorBoard::open(folder.path(), 41).unwrap().path().to_owned();
    assert!(first < second, "a later file has to sort behind");
    let bytes = fs::read(second).unwrap();
    let events = records(&bytes).unwrap();
    assert_eq!(fields(events[0])[2], (3, Field::Bytes(b"brain.Event:2")));
    let mark = fields(events[1]);
    assert_eq!(mark[1], (2, Field::Integer(41)));
    assert_eq!(inner(&mark[2].1), [(1, Field::Integer(1))]);
}

#[test]
fn a_name_has_seconds_host_process_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let board = TensorBoard::open(folder.path(), 0).unwrap();
    let name = board.path().file_name().unwrap().to_str().unwrap().to_owned();
    let parts: Vec<&str> = name.strip_prefix(PREFIX).unwrap().split('.').collect();
    assert_eq!(parts.len(), 4, "{name}");
    assert!(parts[0].parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(parts[2], std::process::id().to_string());
    assert_eq!(parts[3], "0");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = TensorBoard::open(&file.path().join("runs"), 0).unwrap_err();
    assert!(matches!(error, TrackError::Io { action: "make", .. }), "{error}");
}
