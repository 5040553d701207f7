//! A file of series: JSON or CSV, told by its first character.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use super::{Series, SeriesError, csv, prometheus};

/// Reads a file; `-` is standard input.
///
/// # Errors
/// With the line at which the file is broken.
pub fn read_file(path: &Path) -> Result<Vec<Series>, SeriesError> {
    let name = path.display().to_string();
    let text = if name == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|cause| SeriesError::Unreadable {
        path: name.clone(),
        cause,
    })?;
    parse(&text).map_err(|(line, cause)| SeriesError::Malformed {
        path: name,
        line,
        cause,
    })
}

/// Line and cause of what is wrong.
fn parse(text: &str) -> Result<Vec<Series>, (u64, String)> {
    if text.trim_start().starts_with(['{', '[']) {
        prometheus::parse(text)
    } else {
        csv::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_character_tells_json_from_csv() {
        let json = r#" {"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"2"]]}]}}"#;
        assert_eq!(parse(json).unwrap()[0].name, "up");
        assert_eq!(parse("time,a\n1,2\n").unwrap()[0].name, "a");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn any_numbers_are_survived(rows: Vec<(f64, f64)>) {
            let text: String = rows.iter().map(|(time, value)| format!("{time},{value}\n")).collect();
            let _ = parse(&text);
        }
    }
}
