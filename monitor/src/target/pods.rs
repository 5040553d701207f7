//! Names of Kubernetes pods, without asking Kubernetes: the kubelet names the log of each container after it
//! (`/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`), and a sidecar is told its own pod's by the downward API.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{identify::text::clean, model::Pod};

/// Files that are looked at in the folder.
const MAX_FILES: usize = 100_000;
/// The folder is not read more often than this for the sake of a container that is not in it.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Longest name in Kubernetes (RFC 1123 subdomain).
const MAX_NAME: usize = 253;

/// Where names of pods are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSources {
    /// The kubelet's folder of container logs.
    pub logs: PathBuf,
    /// The pod that every process belongs to that no log names.
    pub own: Option<Pod>,
}

/// Names of pods by their containers' ids.
#[derive(Debug, Default)]
pub struct Pods {
    sources: PodSources,
    by_container: HashMap<String, Pod>,
    read_at: Option<Instant>,
}

impl Pods {
    pub fn new(sources: PodSources) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    /// The pod of a container, or of a process that is in none that is known.
    pub fn of(&mut self, container: Option<&str>) -> Option<Pod> {
        let logged = container.and_then(|id| {
            if !self.by_container.contains_key(id) {
                self.read();
            }
            self.by_container.get(id).cloned()
        });
        logged.or_else(|| self.sources.own.clone())
    }

    fn read(&mut self) {
        if self.read_at.is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return;
        }
        self.read_at = Some(Instant::now());
        self.by_container = read(&self.sources.logs);
    }
}

/// Nothing where there is no such folder.
fn read(logs: &Path) -> HashMap<String, Pod> {
    let entries = fs::read_dir(logs).into_iter().flatten().take(MAX_FILES);
    entries
        .filter_map(|entry| parse(entry.ok()?.file_name().to_str()?))
        .collect()
}

/// `POD_NAMESPACE_CONTAINER-ID.log`
fn parse(name: &str) -> Option<(String, Pod)> {
    let (names, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut names = names.splitn(3, '_');
    let mut next = || Some(clean(names.next().filter(|name| !name.is_empty())?, MAX_NAME));
    let pod = Pod {
        name: next()?,
        namespace: next()?,
        container: next()?,
    };
    is_id.then(|| (id.to_owned(), pod))
}

/// What a pod was made from: its name without what a Deployment's ReplicaSet, a DaemonSet, a Job or a StatefulSet has
/// added.
pub fn workload(pod: &str) -> &str {
    // k8s.io/apimachinery/pkg/util/rand: no vowels, no digits that look like some.
    let is_random = |part: &str| {
        let safe = |byte: u8| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte);
        !part.is_empty() && part.bytes().all(safe)
    };
    let Some((rest, last)) = pod.rsplit_once('-') else {
        return pod;
    };
    if last.len() == 5 && is_random(last) {
        // The hash of a ReplicaSet's template is made of the same letters.
        return match rest.rsplit_once('-') {
            Some((deployment, hash)) if (6..=10).contains(&hash.len()) && is_random(hash) => deployment,
            _ => rest,
        };
    }
    let is_ordinal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_ordinal { rest } else { pod }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn logs_are_named_after_pod_namespace_and_container() {
        let (id, pod) = parse(&format!("api-7d9c5b8f6d-x2x5k_shop_web-server-{ID}.log")).unwrap();
        assert_eq!(id, ID);
        assert_eq!(
            (pod.name.as_str(), pod.namespace.as_str(), pod.container.as_str()),
            ("api-7d9c5b8f6d-x2x5k", "shop", "web-server")
        );
        for other in [
            "syslog",
            "a_b_c-12.log",
            &format!("a_b-{ID}.log"),
            &format!("__-{ID}.log"),
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_pods_name_tells_what_it_was_made_from() {
        for (pod, made_from) in [
            ("api-7d9c5b8f6d-x2x5k", "api"),
            ("node-exporter-x2x5k", "node-exporter"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("plain", "plain"),
            ("two-words", "two-words"),
            ("kube-proxy-abcde", "kube-proxy-abcde"),
        ] {
            assert_eq!(workload(pod), made_from, "{pod}");
        }
    }

    #[test]
    fn what_no_log_names_is_in_our_own_pod() {
        let folder = std::env::temp_dir().join(format!("taskleak-pods-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("db-0_shop_postgres-{ID}.log")), "").unwrap();
        let own = Pod {
            name: "api-0".to_owned(),
            namespace: "shop".to_owned(),
            container: String::new(),
        };
        let mut pods = Pods::new(PodSources {
            logs: folder.clone(),
            own: Some(own.clone()),
        });
        assert_eq!(pods.of(Some(ID)).unwrap().name, "db-0");
        assert_eq!(pods.of(Some("another")), Some(own.clone()));
        assert_eq!(pods.of(None), Some(own));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Pods::new(PodSources::default()).of(Some(ID)), None);
    }
}
