//! The manifests: by Kubernetes' own schemas, and against what taskleak needs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_yaml_ng::Value;

use crate::support::{TASKLEAK, capabilities_needed, deploy, repository, said, skip, yaml};

/// From the first that knows `appArmorProfile` on.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
const VALIDATED: [&str; 3] = ["sidecar.yaml", "daemonset.yaml", "servicemonitor.yaml"];

fn manifest(file: &str) -> PathBuf {
    deploy("kubernetes").join(file)
}

fn of_kind(file: &str, kind: &str) -> Value {
    let documents = yaml(&manifest(file));
    documents
        .into_iter()
        .find(|it| it["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind} in {file}"))
}

fn pods() -> [(&'static str, Value); 2] {
    [
        ("sidecar.yaml", of_kind("sidecar.yaml", "Pod")),
        (
            "daemonset.yaml",
            of_kind("daemonset.yaml", "DaemonSet")["spec"]["template"].clone(),
        ),
    ]
}

fn container(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_sequence().unwrap();
    containers.iter().find(|it| it["name"] == "taskleak").unwrap()
}

fn texts(value: &Value) -> BTreeSet<String> {
    let list = value.as_sequence().unwrap().iter();
    list.map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// An answer of `kubernetes-validate`, for each version.
fn validated(program: &Path, file: &Path) -> Vec<(bool, String)> {
    let one = |version: &&str| {
        let output = Command::new(program)
            .args(["--strict", "-k", version])
            .arg(file)
            .output()
            .unwrap();
        (output.status.success(), said(&output))
    };
    VERSIONS.iter().map(one).collect()
}

#[test]
fn kubernetes_takes_them() {
    let program = repository().join("target/tools/kubernetes-validate/bin/kubernetes-validate");
    if !program.exists() {
        return skip(
            "deploy::kubernetes",
            "no kubernetes-validate (cargo xtask test brings it from PyPI)",
        );
    }
    for file in VALIDATED {
        for (good, said) in validated(&program, &manifest(file)) {
            assert!(good, "{said}");
            assert!(said.contains("passed for resource"), "{said}");
        }
    }
    // A word that Kubernetes does not know is found.
    let text = fs::read_to_string(manifest("sidecar.yaml")).unwrap();
    let wrong = std::env::temp_dir().join(format!("taskleak-sidecar-{}.yaml", std::process::id()));
    fs::write(
        &wrong,
        text.replace("shareProcessNamespace", "shareProcessNameSpace"),
    )
    .unwrap();
    let answers = validated(&program, &wrong);
    fs::remove_file(&wrong).unwrap();
    for (good, said) in answers {
        assert!(!good && said.contains("shareProcessNameSpace"), "{said}");
    }
}

#[test]
fn they_have_the_capabilities_that_doctor_speaks_of_and_no_others() {
    for (file, pod) in pods() {
        let context = &container(&pod)["securityContext"];
        assert_eq!(
            texts(&context["capabilities"]["drop"]),
            BTreeSet::from(["ALL".to_owned()]),
            "{file}"
        );
        let granted = texts(&context["capabilities"]["add"])
            .iter()
            .map(|it| format!("CAP_{it}"))
            .collect();
        assert_eq!(capabilities_needed(), granted, "{file}");
        assert_eq!(context["runAsUser"], 0, "{file}: others are given none");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{file}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{file}");
        assert!(context["privileged"].is_null(), "{file}");
        // Each with its reason.
        let text = fs::read_to_string(manifest(file)).unwrap();
        for capability in texts(&context["capabilities"]["add"]) {
            assert!(
                text.contains(&format!("- {capability} # ")),
                "{file}: {capability} has no reason"
            );
        }
    }
}

#[test]
fn they_see_what_they_are_to_see() {
    let [(_, sidecar), (_, node)] = pods();
    assert_eq!(sidecar["spec"]["shareProcessNamespace"], true);
    assert!(sidecar["spec"]["hostPID"].is_null());
    assert_eq!(node["spec"]["hostPID"], true);
    let mounts = |pod: &Value| -> BTreeSet<String> {
        let mounts = container(pod)["volumeMounts"].as_sequence().unwrap().clone();
        for mount in &mounts {
            let is_state = mount["mountPath"] == "/state";
            assert!(is_state || mount["readOnly"] == true, "{mount:?}");
            let volumes = pod["spec"]["volumes"].as_sequence().unwrap();
            let volume = volumes.iter().find(|it| it["name"] == mount["name"]).unwrap();
            assert!(
                is_state || volume["hostPath"]["path"] == mount["mountPath"],
                "{volume:?}"
            );
        }
        mounts
            .iter()
            .map(|it| it["mountPath"].as_str().unwrap().to_owned())
            .collect()
    };
    let paths = |paths: &[&str]| paths.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(mounts(&sidecar), paths(&["/sys/kernel/tracing"]));
    let of_node = [
        "/sys/kernel/tracing",
        "/sys/kernel/btf",
        "/var/log/containers",
        "/state",
    ];
    assert_eq!(mounts(&node), paths(&of_node));
    // The downward API says which pod it is in.
    let environment = container(&sidecar)["env"].as_sequence().unwrap();
    for (name, field) in [
        ("TASKLEAK_POD", "metadata.name"),
        ("TASKLEAK_POD_NAMESPACE", "metadata.namespace"),
    ] {
        let variable = environment.iter().find(|it| it["name"] == name).unwrap();
        assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], field);
    }
}

#[test]
fn what_they_set_exists() {
    let help = Command::new(TASKLEAK).args(["run", "--help"]).output().unwrap();
    let help = said(&help);
    for (file, pod) in pods() {
        for variable in container(&pod)["env"].as_sequence().unwrap() {
            let name = variable["name"].as_str().unwrap();
            assert!(help.contains(&format!("[env: {name}=")), "{file}: {name}");
        }
        // And taskleak takes it all together.
        let mut check = Command::new(TASKLEAK);
        check.args(["run", "--config-check"]);
        for variable in container(&pod)["env"].as_sequence().unwrap() {
            check.env(
                variable["name"].as_str().unwrap(),
                variable["value"].as_str().unwrap_or("given"),
            );
        }
        let output = check.output().unwrap();
        assert!(output.status.success(), "{file}: {}", said(&output));
        let ports = container(&pod)["ports"].as_sequence().unwrap();
        assert_eq!(
            (&ports[0]["name"], &ports[0]["containerPort"]),
            (&"taskleak".into(), &9435.into()),
            "{file}"
        );
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &container(&pod)[probe]["httpGet"];
            assert!(get.is_null() || get["port"] == "taskleak", "{file}: {get:?}");
        }
    }
    let [(_, sidecar), _] = pods();
    assert!(
        container(&sidecar)["readinessProbe"].is_null(),
        "it would take the program out of its service"
    );
}

#[test]
fn the_monitors_find_the_pods() {
    let monitor = of_kind("podmonitor.yaml", "PodMonitor");
    for (file, pod) in pods() {
        let labels = pod["metadata"]["labels"].as_mapping().unwrap();
        for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_mapping().unwrap() {
            assert_eq!(labels.get(label), Some(value), "{file}");
        }
    }
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "taskleak");
    let service = of_kind("servicemonitor.yaml", "Service");
    let by_service = of_kind("servicemonitor.yaml", "ServiceMonitor");
    let node = of_kind("daemonset.yaml", "DaemonSet");
    assert_eq!(
        by_service["spec"]["selector"]["matchLabels"],
        service["metadata"]["labels"]
    );
    assert_eq!(
        service["spec"]["selector"],
        node["spec"]["selector"]["matchLabels"]
    );
    assert_eq!(
        by_service["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    assert_eq!(service["metadata"]["namespace"], node["metadata"]["namespace"]);
    // The alerts ask for a job of this name.
    for monitor in [
        &monitor["spec"]["podMetricsEndpoints"][0],
        &by_service["spec"]["endpoints"][0],
    ] {
        let job = &monitor["relabelings"][0];
        assert_eq!(
            (&job["targetLabel"], &job["replacement"]),
            (&"job".into(), &"taskleak".into())
        );
    }
}
