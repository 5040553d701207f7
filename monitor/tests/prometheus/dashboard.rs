//! `dashboards/taskleak.json`: held to the rules of Grafana's dashboard-linter that matter here, and asked for data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use crate::{
    rules::dashboards,
    servers::{Server, until},
};

/// Units of Grafana that are used.
const UNITS: [&str; 5] = ["short", "s", "cps", "percentunit", "bytes"];
const VARIABLES: [&str; 6] = ["datasource", "job", "instance", "comm", "kind", "site"];
const COLUMNS: u64 = 24;
/// What Grafana would make of `$__rate_interval` at one scrape a second.
const RATE_INTERVAL: &str = "8s";

fn read() -> Value {
    serde_json::from_str(&fs::read_to_string(dashboards().join("taskleak.json")).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn variables(dashboard: &Value) -> &[Value] {
    list(&dashboard["templating"]["list"])
}

/// An expression as Grafana would send it.
fn filled(expression: &str, values: &[(&str, &str)]) -> String {
    let mut filled = expression.replace("$__rate_interval", RATE_INTERVAL);
    for (name, value) in values {
        filled = filled.replace(&format!("${name}"), value);
    }
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// Every variable at "All".
fn everything(dashboard: &Value) -> Vec<(&str, &str)> {
    let variables = variables(dashboard).iter().filter(|it| it["type"] == "query");
    variables
        .map(|it| (text(&it["name"]), text(&it["allValue"])))
        .collect()
}

/// Title of the panel and expression.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let panels = list(&dashboard["panels"]).iter();
    panels
        .flat_map(|panel| {
            let targets = list(&panel["targets"]).iter();
            targets.map(|target| (text(&panel["title"]), text(&target["expr"])))
        })
        .collect()
}

/// Expressions in which every variable has a value, for whoever looks at names.
pub fn expressions() -> Vec<String> {
    let dashboard = read();
    let values = everything(&dashboard);
    let of_panels = queries(&dashboard).into_iter().map(|(_, expression)| expression);
    let of_variables = variables(&dashboard)
        .iter()
        .filter_map(|it| Some(of_label_values(text(&it["query"]["query"]))?.0));
    of_panels
        .chain(of_variables)
        .map(|it| filled(it, &values))
        .collect()
}

/// `label_values(selector, label)`
fn of_label_values(query: &str) -> Option<(&str, &str)> {
    query
        .strip_prefix("label_values(")?
        .strip_suffix(')')?
        .rsplit_once(", ")
}

/// What is wrong with a panel that shows something.
fn complaints(panel: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            complaints.push(format!("{}: {what}", text(&panel["title"])));
        }
    };
    must(!text(&panel["title"]).is_empty(), "no title");
    must(text(&panel["description"]).ends_with('.'), "no description");
    let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
    must(UNITS.contains(&unit), "no unit that is known");
    must(panel["datasource"]["uid"] == "${datasource}", "a fixed source");
    must(!list(&panel["targets"]).is_empty(), "no query");
    let mut refs = BTreeSet::new();
    for target in list(&panel["targets"]) {
        let expression = text(&target["expr"]);
        must(target["datasource"]["uid"] == "${datasource}", "a fixed source");
        must(refs.insert(text(&target["refId"])), "two queries of one name");
        let selectors: Vec<&str> = expression.split('{').skip(1).collect();
        must(!selectors.is_empty(), "a metric without labels");
        for selector in selectors {
            let selector = selector.split('}').next().unwrap();
            for matcher in ["job=~\"$job\"", "instance=~\"$instance\""] {
                must(selector.contains(matcher), matcher);
            }
        }
        let ranges = expression.split('[').skip(1);
        for range in ranges {
            must(range.starts_with("$__rate_interval]"), "a fixed range");
        }
        for metric in crate::promql::used(&filled(
            expression,
            &[
                ("job", ""),
                ("instance", ""),
                ("comm", ""),
                ("kind", ""),
                ("site", ""),
            ],
        ))
        .metrics
        {
            let is_counter = metric.0.ends_with("_total");
            must(
                !is_counter || expression.contains("rate("),
                "a counter without a rate",
            );
        }
    }
    complaints
}

fn panels_that_show(dashboard: &Value) -> Vec<&Value> {
    let panels = list(&dashboard["panels"]).iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn the_dashboard_keeps_the_linters_rules() {
    let dashboard = read();
    assert_eq!(dashboard["uid"], "taskleak");
    assert_eq!(dashboard["title"], "taskleak");
    assert_eq!(dashboard["editable"], false);
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let panels = panels_that_show(&dashboard);
    assert!(panels.len() > 15, "{}", panels.len());
    let found: Vec<String> = panels.into_iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{found:#?}");

    let names: Vec<&str> = variables(&dashboard).iter().map(|it| text(&it["name"])).collect();
    assert_eq!(names, VARIABLES);
    let source = &variables(&dashboard)[0];
    assert_eq!(
        (
            text(&source["type"]),
            text(&source["query"]),
            text(&source["label"])
        ),
        ("datasource", "prometheus", "Data source")
    );
    for variable in &variables(&dashboard)[1..] {
        let name = text(&variable["name"]);
        assert_eq!(variable["type"], "query", "{name}");
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}");
        // 2: when the range of time changes.
        assert_eq!(variable["refresh"], 2, "{name}");
        assert_eq!(variable["multi"], true, "{name}");
        assert_eq!(variable["includeAll"], true, "{name}");
        assert!(matches!(text(&variable["allValue"]), ".+" | ".*"), "{name}");
        assert!(
            of_label_values(text(&variable["query"]["query"])).is_some(),
            "{name}"
        );
    }
}

#[test]
fn the_linter_complains() {
    let panel = |change: &dyn Fn(&mut Value)| {
        let mut panel = panels_that_show(&read())
            .into_iter()
            .find(|panel| panel["title"] == "Came back")
            .unwrap()
            .clone();
        change(&mut panel);
        complaints(&panel)
    };
    assert_eq!(panel(&|_| {}), Vec::<String>::new());
    let expression = |text: &'static str| panel(&|it| it["targets"][0]["expr"] = text.into());
    assert_eq!(
        expression("taskleak_tasks{job=~\"$job\"}"),
        ["Came back: instance=~\"$instance\""]
    );
    assert_eq!(
        expression("rate(x_total{job=~\"$job\", instance=~\"$instance\"}[5m])"),
        ["Came back: a fixed range"]
    );
    assert_eq!(
        expression("sum(x_total{job=~\"$job\", instance=~\"$instance\"})"),
        ["Came back: a counter without a rate"]
    );
    assert_eq!(expression("up"), ["Came back: a metric without labels"]);
    assert_eq!(
        panel(&|it| it["fieldConfig"]["defaults"]["unit"] = "".into()),
        ["Came back: no unit that is known"]
    );
    assert_eq!(
        panel(&|it| it["description"] = "".into()),
        ["Came back: no description"]
    );
    assert_eq!(
        panel(&|it| it["datasource"]["uid"] = "abc".into()),
        ["Came back: a fixed source"]
    );
}

#[test]
fn panels_have_ids_and_places_of_their_own() {
    let dashboard = read();
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let of = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (x, y, width, height) = (of("x"), of("y"), of("w"), of("h"));
        assert!(width > 0 && height > 0 && x + width <= COLUMNS, "{title}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, title) {
                panic!("{title} lies on {other}");
            }
        }
    }
}

/// Every query and every variable has an answer, and the right ones where they are known: `demo` leaks at
/// `wait_for_reply` and nothing else does; one process is stopped, and so is not seen completely.
pub fn has_data(prometheus: &Server, instance: &str) {
    let dashboard = read();
    let everything = everything(&dashboard);
    let chosen = [
        ("job", "taskleak"),
        ("instance", instance),
        ("comm", "(demo|blockers|full)"),
        ("kind", "(thread|tokio)"),
        ("site", "(wait_for_reply|next_job)"),
    ];
    for values in [everything.as_slice(), &chosen] {
        for (title, expression) in queries(&dashboard) {
            let query = filled(expression, values);
            // Of rates there is nothing until there are two samples.
            until(
                &format!("data for the panel {title}"),
                || (!prometheus.query(&query).is_empty()).then_some(()),
                || query.clone(),
            );
        }
    }
    for variable in &variables(&dashboard)[1..] {
        let (selector, label) = of_label_values(text(&variable["query"]["query"])).unwrap();
        let answer = prometheus.get_with(
            &format!("/api/v1/label/{label}/values"),
            &[("match[]", &filled(selector, &everything))],
        );
        let found: BTreeSet<&str> = list(&answer["data"]).iter().map(text).collect();
        let expected: &[&str] = match text(&variable["name"]) {
            "job" => &["taskleak"],
            "instance" => &[instance],
            "comm" => &["blockers", "demo", "full"],
            "kind" => &["thread", "tokio"],
            "site" => &["next_job", "wait_for_reply"],
            other => panic!("{other}"),
        };
        assert!(expected.iter().all(|it| found.contains(it)), "{label}: {found:?}");
    }
    let answers = |title: &str| -> Vec<Vec<(Value, f64)>> {
        let of_panel = queries(&dashboard).into_iter().filter(|(it, _)| *it == title);
        of_panel
            .map(|(_, expression)| prometheus.query(&filled(expression, &everything)))
            .collect()
    };
    assert_eq!(answers("Leaking groups")[0][0].1, 1.0);
    assert_eq!(answers("Processes watched")[0][0].1, 4.0);
    assert_eq!(answers("Not seen completely")[0][0].1, 1.0);
    let causes = answers("Not seen completely, by cause");
    assert_eq!(causes[0][0].0, serde_json::json!({"cause": "stopped"}));
    // The columns of the table belong to the same row.
    let columns = answers("Leaking groups, ranked");
    assert_eq!(columns.len(), 3);
    for column in &columns {
        assert_eq!(column.len(), 1, "{column:#?}");
        assert_eq!(column[0].0, columns[0][0].0);
    }
    let labels = &columns[0][0].0;
    for (label, value) in [
        ("comm", "demo"),
        ("block_site", "wait_for_reply"),
        ("entry", "handle_request"),
        ("verdict", "leaking"),
    ] {
        assert_eq!(labels[label], value, "{labels:#}");
    }
}
