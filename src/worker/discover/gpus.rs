//! NVIDIA cards, asked of the driver's own library (NVML), which is found at run time.
//!
//! A machine without the library or the driver has no cards, and that is no error. Each answer about a card is taken
//! for itself: an old driver, or a card that fell off the bus, leaves a field unknown and does not hide the others.
//! A card that does not even have a handle is left out, since no job could use it.
//!
//! Cards split into MIG instances are shown whole.

use std::path::Path;

use nvml_wrapper::{Device, Nvml};

use super::cpus::parse_cpu_list;
use crate::model::topology::{Gpu, Topology};

/// The name that drivers install; the one without `.1` comes with development packages only.
pub(super) const NVML: &str = "libnvidia-ml.so.1";

/// The cards, by the library `library`; `sysfs` tells what each is close to.
pub(super) fn discover(library: &str, sysfs: &Path, topology: &Topology) -> Vec<Gpu> {
    let Ok(nvml) = Nvml::builder().lib_path(library.as_ref()).init() else {
        return Vec::new();
    };
    (0..nvml.device_count().unwrap_or(0))
        .filter_map(|index| {
            let card = nvml.device_by_index(index).ok()?;
            Some(describe(index, &card, sysfs, topology))
        })
        .collect()
}

fn describe(index: u32, card: &Device<'_>, sysfs: &Path, topology: &Topology) -> Gpu {
    Gpu {
        index,
        kind: card
            .name()
            .map_or_else(|_| "gpu".into(), |name| kind(&name)),
        uuid: card.uuid().unwrap_or_default(),
        memory_mib: card.memory_info().map_or(0, |memory| memory.total >> 20),
        numa: card
            .pci_info()
            .ok()
            .and_then(|pci| numa(&pci.bus_id, sysfs, topology)),
        minor: card.minor_number().ok(),
        real: true,
    }
}

/// The NUMA node of the device at this address. Many boards say -1; then the cpus that sysfs calls local decide, when
/// they all are of one node.
fn numa(bus_id: &str, sysfs: &Path, topology: &Topology) -> Option<u32> {
    let device = sysfs.join("bus/pci/devices").join(sysfs_address(bus_id)?);
    let read = |name| std::fs::read_to_string(device.join(name)).ok();
    let named = read("numa_node").and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(id) = named {
        return topology.numa_node(id).map(|node| node.id);
    }
    let local = parse_cpu_list(read("local_cpulist")?.trim())?;
    let mut nodes = local
        .iter()
        .filter_map(|&id| topology.cpu(id))
        .map(|cpu| cpu.numa);
    let first = nodes.next()?;
    nodes.all(|node| node == first).then_some(first)
}

/// NVML writes `00000000:3B:00.0`, sysfs `0000:3b:00.0`. `None` for anything else: it becomes part of a path.
fn sysfs_address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal(domain) || !hexadecimal(&rest.replace([':', '.'], "")) || rest.contains("..") {
        return None;
    }
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

/// What users call a card, from what the driver calls it: `NVIDIA A100-SXM4-80GB` is an `a100`, `NVIDIA GeForce RTX
/// 4090` an `rtx_4090`. The maker, the family, the form factor and the memory are left out.
fn kind(name: &str) -> String {
    const LEFT_OUT: [&str; 11] = [
        "nvidia",
        "geforce",
        "tesla",
        "quadro",
        "titan-",
        "generation",
        "gpu",
        "pcie",
        "nvl",
        "with",
        "max-q",
    ];
    let words: Vec<String> = name
        .to_ascii_lowercase()
        .split_whitespace()
        // `a100-sxm4-80gb`, `a100-pcie-40gb`, `v100-sxm2-32gb`: the model is before the dash.
        .map(|word| match word.split_once('-') {
            Some((model, form))
                if ["sxm", "pcie", "hgx", "nvl", "dgxs"]
                    .iter()
                    .any(|known| form.starts_with(known)) =>
            {
                model.to_owned()
            }
            _ => word.to_owned(),
        })
        .filter(|word| !LEFT_OUT.contains(&word.as_str()) && !is_memory(word))
        .map(|word| {
            word.chars()
                .filter(|&letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
                .collect()
        })
        .collect();
    let kind = words.join("_");
    if kind.is_empty() { "gpu".into() } else { kind }
}

/// `80gb`, `hbm3`, `hbm2e`
fn is_memory(word: &str) -> bool {
    word.starts_with("hbm")
        || word
            .strip_suffix("gb")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::model::topology::{LogicalCpu, NumaNode};

    #[test]
    fn kinds() {
        let cases = [
            ("NVIDIA A100-SXM4-80GB", "a100"),
            ("NVIDIA A100 80GB PCIe", "a100"),
            ("A100-PCIE-40GB", "a100"),
            ("Tesla V100-SXM2-32GB", "v100"),
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA H100 NVL", "h100"),
            ("NVIDIA H200", "h200"),
            ("NVIDIA GH200 480GB", "gh200"),
            ("NVIDIA L40S", "l40s"),
            ("Tesla T4", "t4"),
            ("NVIDIA GeForce RTX 4090", "rtx_4090"),
            ("NVIDIA GeForce RTX 3080 Ti", "rtx_3080_ti"),
            ("NVIDIA RTX A6000", "rtx_a6000"),
            ("NVIDIA RTX 6000 Ada Generation", "rtx_6000_ada"),
            ("NVIDIA TITAN V", "titan_v"),
            ("NVIDIA", "gpu"),
            ("", "gpu"),
        ];
        for (name, expected) in cases {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(
            sysfs_address("00000000:3B:00.0").as_deref(),
            Some("0000:3b:00.0")
        );
        assert_eq!(
            sysfs_address("00010000:3B:00.0").as_deref(),
            Some("10000:3b:00.0")
        );
        for bad in ["", "../../etc", "0000:../x", "0000:..", "3B"] {
            assert_eq!(sysfs_address(bad), None, "{bad}");
        }
    }

    /// NUMA nodes 0 and 8 of two cpus each.
    fn machine() -> Topology {
        let cpu = |id, numa| LogicalCpu {
            id,
            core: id,
            package: 0,
            numa,
            real: true,
        };
        let node = |id, cpus: [u32; 2]| NumaNode {
            id,
            cpus: cpus.to_vec(),
            memory_mib: 0,
            distances: Vec::new(),
        };
        Topology {
            cpus: vec![cpu(0, 0), cpu(1, 0), cpu(2, 8), cpu(3, 8)],
            numa_nodes: vec![node(0, [0, 1]), node(8, [2, 3])],
            ..Topology::default()
        }
    }

    #[test]
    fn nearness_of_a_card() {
        let cases = [
            ("8", "0-3", Some(8)),
            ("-1", "2-3", Some(8)),
            ("-1", "0-3", None),
            ("-1", "", None),
            ("5", "0-1", None),
        ];
        for (numa_node, local_cpulist, expected) in cases {
            let sysfs = tempfile::tempdir().unwrap();
            let device = sysfs.path().join("bus/pci/devices/0000:3b:00.0");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("numa_node"), format!("{numa_node}\n")).unwrap();
            std::fs::write(device.join("local_cpulist"), format!("{local_cpulist}\n")).unwrap();
            assert_eq!(
                numa("00000000:3B:00.0", sysfs.path(), &machine()),
                expected,
                "{numa_node} {local_cpulist}"
            );
        }
    }

    #[test]
    fn no_library_is_no_cards() {
        assert!(
            discover(
                "/nonexistent/libnvidia-ml.so.1",
                Path::new("/sys"),
                &machine()
            )
            .is_empty()
        );
    }

    /// A library of the driver's shape, with three cards: a whole one, one that answers nothing but its handle, and
    /// one that is lost. Functions that it lacks are those of an old driver.
    const STUB: &str = r#"
#include <string.h>
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, sub; char bus_id[32]; } pci;
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned f) { (void)f; return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { if (i == 2) return 15; *h = (void *)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { if (h != (void *)1) return 15; strncpy(s, "NVIDIA A100-SXM4-80GB", n); return 0; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { if (h != (void *)1) return 15; strncpy(s, "GPU-11111111-2222-3333-4444-555555555555", n); return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *h, memory_v2 *m) { if (h != (void *)1) return 15; m->total = 81920ull << 20; return 0; }
int nvmlDeviceGetPciInfo_v3(void *h, pci *p) { if (h != (void *)1) return 15; memset(p, 0, sizeof *p); strcpy(p->bus_id, "00000000:3B:00.0"); return 0; }
"#;

    #[test]
    fn a_stub_of_the_drivers_library() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("nvml.c");
        let library = directory.path().join("libnvidia-ml.so.1");
        std::fs::write(&source, STUB).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status()
            .unwrap();
        assert!(built.success());
        let sysfs = directory.path().join("sys");
        let device = sysfs.join("bus/pci/devices/0000:3b:00.0");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("numa_node"), "8\n").unwrap();

        let found = discover(library.to_str().unwrap(), &sysfs, &machine());
        assert_eq!(
            found,
            [
                Gpu {
                    index: 0,
                    kind: "a100".into(),
                    uuid: "GPU-11111111-2222-3333-4444-555555555555".into(),
                    memory_mib: 81920,
                    numa: Some(8),
                    minor: None,
                    real: true,
                },
                Gpu {
                    index: 1,
                    kind: "gpu".into(),
                    uuid: String::new(),
                    memory_mib: 0,
                    numa: None,
                    minor: None,
                    real: true,
                },
            ]
        );
    }
}
