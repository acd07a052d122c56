//! The memory that jobs may use: the machine's, or less where a cgroup limits this process.
//!
//! A limit may stand at any level above us, in cgroup v2 (`memory.max`) or v1 (`memory.limit_in_bytes`), and inside a
//! container our own level is what the mount shows as its root. So each memory hierarchy that is mounted is walked
//! from our own group up to the mount point, and the smallest limit holds.

use std::path::{Path, PathBuf};

use super::cpus::parse_cpu_list;

/// The memory of the machine, where its NUMA nodes were found to have `in_nodes_mib` together.
///
/// The kernel's total and the sum over the nodes should agree, and at times do not. On a virtual machine that was
/// given memory later the node can lag far behind, so with only one node the total holds. With several, memory may
/// be in nodes that hwloc hides (that of GPUs), or the total may be a container's; then the smaller one holds.
pub(super) fn physical_mib(in_nodes_mib: u64, only_node: bool) -> u64 {
    let total_mib = read("/proc/meminfo").and_then(|text| mem_total_mib(&text));
    choose_mib(in_nodes_mib, total_mib, only_node)
}

fn choose_mib(in_nodes_mib: u64, total_mib: Option<u64>, only_node: bool) -> u64 {
    match total_mib {
        None => in_nodes_mib,
        Some(total_mib) if only_node || in_nodes_mib == 0 => total_mib,
        Some(total_mib) => total_mib.min(in_nodes_mib),
    }
}

/// True where all memory is in one NUMA node, counting the nodes that hwloc hides, or the kernel knows of no nodes.
pub(super) fn is_in_one_node() -> bool {
    read("/sys/devices/system/node/has_memory")
        .and_then(|text| parse_cpu_list(text.trim()))
        .is_none_or(|nodes| nodes.len() <= 1)
}

/// The part of it that the cgroups above this process leave.
pub(super) fn limited_mib(physical_mib: u64) -> u64 {
    let limit = limit_bytes(
        &read("/proc/self/cgroup").unwrap_or_default(),
        &read("/proc/self/mountinfo").unwrap_or_default(),
        Path::new("/"),
    );
    match limit {
        Some(bytes) => physical_mib.min(bytes >> 20),
        None => physical_mib,
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn mem_total_mib(meminfo: &str) -> Option<u64> {
    let rest = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

/// The smallest limit over all mounted memory hierarchies; `root` stands before every path, for tests.
fn limit_bytes(own_groups: &str, mountinfo: &str, root: &Path) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for mount in mountinfo.lines().filter_map(MemoryMount::parse) {
        let Some(group) = own_groups.lines().find_map(|line| mount.own_group(line)) else {
            continue;
        };
        // Without a cgroup namespace the mount's root is a prefix of our group's path; a bind mount may also show a
        // group that is not above ours, and then only the mount point itself can be asked.
        let below = Path::new(group)
            .strip_prefix(&mount.root)
            .unwrap_or(Path::new(""));
        let top = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        let mut at = top.join(below);
        loop {
            let limit = read(at.join(mount.file())).and_then(|text| text.trim().parse().ok());
            smallest = match (smallest, limit) {
                (Some(a), Some(b)) => Some(u64::min(a, b)),
                (a, b) => a.or(b),
            };
            if at == top || !at.pop() {
                break;
            }
        }
    }
    smallest
}

/// A mounted cgroup hierarchy that can limit memory.
struct MemoryMount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl MemoryMount {
    /// `36 31 0:32 ROOT POINT rw - cgroup cgroup rw,memory`, with optional fields before the dash.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self {
            version,
            root: root.into(),
            point: point.into(),
        })
    }

    /// Our group's path, where this line of `/proc/self/cgroup` is about this hierarchy: `4:memory:/a/b`, `0::/a/b`.
    fn own_group<'line>(&self, line: &'line str) -> Option<&'line str> {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match self.version {
            Version::V2 => id == "0" && controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
        };
        ours.then_some(path)
    }

    fn file(&self) -> &'static str {
        match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        tree
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_holds() {
        let v2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let tree = tree(&[
            ("sys/fs/cgroup/user/memory.max", "1000000"),
            ("sys/fs/cgroup/user/session/memory.max", "max"),
            ("sys/fs/cgroup/other/memory.max", "5"),
        ]);
        assert_eq!(
            limit_bytes("0::/user/session", v2, tree.path()),
            Some(1_000_000)
        );
        assert_eq!(limit_bytes("0::/elsewhere", v2, tree.path()), None);
    }

    #[test]
    fn version_1_and_mixed() {
        let mounts = "\
33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let tree = tree(&[
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2048"),
        ]);
        let groups = "8:pids:/\n4:memory:/box/inner\n0::/";
        assert_eq!(limit_bytes(groups, mounts, tree.path()), Some(2048));
    }

    #[test]
    fn inside_a_container_the_mount_shows_our_own_group() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let tree = tree(&[("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096")]);
        assert_eq!(
            limit_bytes("4:memory:/docker/abc", mounts, tree.path()),
            Some(4096)
        );
        assert_eq!(
            limit_bytes("4:memory:/docker/other", mounts, tree.path()),
            Some(4096)
        );
    }

    #[test]
    fn nothing_mounted_is_no_limit() {
        assert_eq!(limit_bytes("", "", Path::new("/")), None);
        assert_eq!(limit_bytes("garbage", "garbage - x", Path::new("/")), None);
    }

    #[test]
    fn the_kernels_total_and_the_nodes_sum() {
        // in the nodes, in total, only one node, expected
        let cases = [
            (5722, Some(24105), true, 24105),
            (65536, Some(8192), true, 8192),
            (65536, Some(8192), false, 8192),
            (65536, Some(98304), false, 65536),
            (0, Some(8192), false, 8192),
            (4096, None, true, 4096),
        ];
        for (in_nodes, total, only_node, expected) in cases {
            assert_eq!(choose_mib(in_nodes, total, only_node), expected);
        }
    }

    #[test]
    fn meminfo() {
        assert_eq!(
            mem_total_mib("MemTotal:       16384000 kB\nMemFree: 1 kB"),
            Some(16000)
        );
        assert_eq!(mem_total_mib("nothing"), None);
    }
}
