//! The answer of Prometheus' `/api/v1/query_range`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

use super::Series;

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Stream {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// Line and cause of what is wrong.
pub fn parse(text: &str) -> Result<Vec<Series>, (u64, String)> {
    let wrong = |error: serde_json::Error| (error.line() as u64, error.to_string());
    let answer: Answer = serde_json::from_str(text).map_err(wrong)?;
    let Some(data) = answer.data.filter(|_| answer.status == "success") else {
        return Err((1, answer.error.unwrap_or_else(|| "it is no success".to_owned())));
    };
    if data.kind != "matrix" {
        return Err((1, format!("it is a {}, not a matrix: ask query_range", data.kind)));
    }
    let streams: Vec<Stream> = serde_json::from_value(data.result).map_err(wrong)?;
    streams
        .into_iter()
        .map(|stream| {
            let name = name(&stream.metric);
            let samples = stream
                .values
                .into_iter()
                .map(|(time, value)| match value.parse() {
                    Ok(value) => Ok((time, value)),
                    Err(_) => Err((1, format!("`{value}` of {name} at {time} is no number"))),
                })
                .collect::<Result<_, _>>()?;
            Ok(Series { name, samples })
        })
        .collect()
}

/// `name{label="value",…}`
fn name(labels: &BTreeMap<String, String>) -> String {
    let mut text = labels.get("__name__").cloned().unwrap_or_default();
    let others: Vec<String> = labels
        .iter()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    if text.is_empty() || !others.is_empty() {
        let _ = write!(text, "{{{}}}", others.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#)
    }

    #[test]
    fn series_keep_their_labels() {
        let text =
            matrix(r#"{"metric":{"__name__":"up","job":"a\"b"},"values":[[1.5,"2"],[2,"NaN"],[3,"+Inf"]]}"#);
        let series = parse(&text).unwrap();
        assert_eq!(series[0].name, r#"up{job="a\"b"}"#);
        assert_eq!(series[0].samples[0], (1.5, 2.0));
        assert!(series[0].samples[1].1.is_nan() && series[0].samples[2].1.is_infinite());
    }

    #[test]
    fn errors_are_passed_on() {
        let error = parse(r#"{"status":"error","errorType":"bad_data","error":"parse error: x"}"#);
        assert_eq!(error.unwrap_err().1, "parse error: x");
        let instant = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert!(parse(instant).unwrap_err().1.contains("query_range"));
        assert_eq!(parse("{\n\n\"status\": 1}").unwrap_err().0, 3);
        assert!(
            parse(&matrix(r#"{"metric":{},"values":[[1,"x"]]}"#))
                .unwrap_err()
                .1
                .contains("`x`")
        );
    }
}
