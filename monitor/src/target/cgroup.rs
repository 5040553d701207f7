//! Workload and container from `/proc/PID/cgroup` (man 7 cgroups): lines of `id:controllers:path`.

/// The cgroup paths of a process, most telling first: the unified hierarchy (unless it is only the root), then
/// systemd's, then the others.
pub fn paths(text: &str) -> Vec<&str> {
    let mut paths: Vec<(u8, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let rank = match controllers {
                _ if path == "/" => 3,
                "" => 0,
                "name=systemd" => 1,
                _ => 2,
            };
            Some((rank, path))
        })
        .collect();
    paths.sort_by_key(|(rank, _)| *rank);
    paths.into_iter().map(|(_, path)| path).collect()
}

/// The systemd unit, else the cgroup itself; empty for the root.
pub fn workload(paths: &[&str]) -> String {
    let unit = |part: &&str| [".service", ".scope"].iter().any(|suffix| part.ends_with(suffix));
    let units = paths.iter().find_map(|path| path.rsplit('/').find(unit));
    let named = || paths.iter().find(|path| **path != "/").copied();
    units.or_else(named).unwrap_or_default().to_owned()
}

/// The 64 hex digits that container engines name a container's cgroup by: the innermost in the path
/// (`docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `/docker/<id>`, …).
pub fn container_id(paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| {
        path.rsplit('/').find_map(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let id = part.rsplit(['-', ':']).next()?;
            let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id.then(|| id.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_unified_hierarchy_comes_first_unless_it_is_the_root() {
        assert_eq!(
            paths("4:memory:/m\n1:name=systemd:/s\n0::/u\n"),
            ["/u", "/s", "/m"]
        );
        assert_eq!(paths("4:memory:/m\n1:name=systemd:/s\n0::/\n"), ["/s", "/m", "/"]);
        assert_eq!(paths("nonsense\n"), Vec::<&str>::new());
    }

    #[test]
    fn a_unit_names_the_workload() {
        assert_eq!(workload(&["/system.slice/api.service"]), "api.service");
        assert_eq!(workload(&["/system.slice/api.service/sub"]), "api.service");
        assert_eq!(workload(&["/jobs/42", "/"]), "/jobs/42");
        assert_eq!(workload(&["/"]), "");
    }

    #[test]
    fn engines_name_containers_by_their_ids() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-pod1:cri-containerd:{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_id(&[&path]).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container_id(&["/user.slice/session-4.scope"]), None);
    }
}
