//! CSV: a column of unix seconds, and one of values for each series; names in the first row, if there are any.

use super::Series;

/// Line and cause of what is wrong. A field that is empty is a sample that is missing.
pub fn parse(text: &str) -> Result<Vec<Series>, (u64, String)> {
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(::csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut series: Vec<Series> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, ::csv::Position::line);
            (line, error.to_string())
        })?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let first = record.get(0).unwrap_or_default();
        let time = first.parse::<f64>().ok().filter(|time| time.is_finite());
        if series.is_empty() {
            let is_header = time.is_none();
            series = record
                .iter()
                .enumerate()
                .skip(1)
                .map(|(column, name)| Series {
                    name: if is_header {
                        name.to_owned()
                    } else {
                        format!("column {}", column + 1)
                    },
                    samples: Vec::new(),
                })
                .collect();
            if series.is_empty() {
                return Err((line, "no column of values".to_owned()));
            }
            if is_header {
                continue;
            }
        }
        let Some(time) = time else {
            return Err((line, format!("`{first}` is no time in unix seconds")));
        };
        for (one, field) in series.iter_mut().zip(record.iter().skip(1)) {
            if field.is_empty() {
                continue;
            }
            let value = field
                .parse()
                .map_err(|_| (line, format!("`{field}` is no number")))?;
            one.samples.push((time, value));
        }
    }
    if series.is_empty() {
        return Err((1, "it is empty".to_owned()));
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_the_series() {
        let series = parse("time, open fds , goroutines\n10,1,5\n20,,6\n30,3,7\n").unwrap();
        assert_eq!(series[0].name, "open fds");
        assert_eq!(series[0].samples, [(10.0, 1.0), (30.0, 3.0)]);
        assert_eq!(series[1].samples, [(10.0, 5.0), (20.0, 6.0), (30.0, 7.0)]);
    }

    #[test]
    fn without_one_columns_are_numbered() {
        let series = parse("10,1\n20,2\n").unwrap();
        assert_eq!(
            (series[0].name.as_str(), series[0].samples.len()),
            ("column 2", 2)
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line) in [
            ("time,a\n1,2\nx,3\n", 3),
            ("1,2\n2,zwei\n", 2),
            ("1,2\n2,3,4\n", 2),
            ("1\n", 1),
            ("", 1),
            ("NaN,1\nNaN,2\n", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text:?}");
        }
    }
}
