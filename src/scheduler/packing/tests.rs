//! What each rule does on nodes small enough to work out by hand, and that none gives anything twice.

use super::*;

fn node(cpu_milli: u32, gpus: &[u16]) -> Node {
    Node {
        cpu_milli,
        memory_mib: 1024,
        gpus: gpus.iter().copied().collect(),
        model: Some(0),
    }
}

fn task(gpus: GpuAsk) -> Task {
    Task {
        gpus,
        models: Vec::new(),
        cpu_milli: 1000,
        memory_mib: 16,
    }
}

fn share(milli: u16) -> Task {
    task(GpuAsk::Share(milli))
}

fn whole(count: u16) -> Task {
    task(GpuAsk::Whole(count))
}

const RULES: [Rule; 4] = [
    Rule::FirstFit,
    Rule::BestFit,
    Rule::DotProduct,
    Rule::Fragmentation,
];

/// Where a task goes in a cluster whose nodes have been these, empty, and are now those.
fn placed(
    rule: Rule,
    empty: &[Node],
    now: &[Node],
    task: &Task,
    mix: &Mix,
) -> Option<(usize, Vec<usize>)> {
    let placement = Measure::new(rule, empty, mix).place(now, task)?;
    Some((placement.node, placement.gpus))
}

#[test]
fn fragmentation_is_what_each_class_cannot_use() {
    // Three shares of 300 come for two whole pairs and one whole GPU with many cpus.
    let mut thirsty = whole(1);
    thirsty.cpu_milli = 9000;
    let tasks = [
        share(300),
        share(300),
        share(300),
        whole(2),
        whole(2),
        thirsty,
        task(GpuAsk::None),
    ];
    let mix = Mix::of(&tasks);
    let of = |cpu_milli: u32, gpus: &[u16]| mix.fragmentation(&node(cpu_milli, gpus));
    // All can use an empty node with cpus enough.
    assert_eq!(of(9000, &[1000, 1000]), 0);
    // The single one lacks cpus: nothing of both GPUs is for it.
    assert_eq!(of(8000, &[1000, 1000]), 2000);
    // Shares cannot use 200 of the first, pairs neither GPU, the single one not the first.
    assert_eq!(of(9000, &[200, 1000]), 3 * 200 + 2 * 1200 + 200);
    // Three free GPUs count for pairs, the one in between does not.
    assert_eq!(of(9000, &[1000, 500, 1000, 1000]), 2 * 500 + 500);
    // Without cpus nobody can use anything; where nothing is free nothing is lost.
    assert_eq!(of(0, &[1000, 200]), 6 * 1200);
    assert_eq!(of(0, &[0, 0]), 0);
    assert_eq!(of(9000, &[]), 0);
}

#[test]
fn a_class_that_does_not_take_the_model_can_use_nothing() {
    let mut picky = share(500);
    picky.models = vec![1, 7];
    let mix = Mix::of([&picky]);
    let mut here = node(9000, &[1000, 400]);
    assert_eq!(mix.fragmentation(&here), 1400);
    here.model = Some(7);
    assert_eq!(mix.fragmentation(&here), 400);
    here.model = None;
    assert_eq!(mix.fragmentation(&here), 1400);
}

#[test]
fn a_mix_keeps_what_comes_most() {
    let rare = (1..=200).map(|milli| share(milli * 2));
    let often = (1..=100).flat_map(|milli| [share(milli * 4 + 1), share(milli * 4 + 1)]);
    let tasks: Vec<Task> = rare.chain(often).collect();
    let mix = Mix::of(&tasks);
    assert_eq!(mix, Mix::of(tasks.iter().rev()), "their order is nothing");
    // 100 classes that come twice, and 28 of those that come once.
    assert_eq!(mix.fragmentation(&node(0, &[1])), 2 * 100 + 28);
}

#[test]
fn each_rule_has_its_place_for_a_share() {
    let empty = [node(8000, &[1000, 1000]), node(8000, &[1000, 1000])];
    let now = [node(7000, &[600, 1000]), node(4000, &[500, 700])];
    // Shares of 600 come as well, once for two of those of 300.
    let mix = Mix::of(&[share(300), share(300), share(600)]);
    let place = |rule| placed(rule, &empty, &now, &share(300), &mix);
    assert_eq!(place(Rule::FirstFit), Some((0, vec![0])));
    assert_eq!(place(Rule::BestFit), Some((1, vec![0])));
    assert_eq!(place(Rule::DotProduct), Some((1, vec![0])));
    // 600 less 300 is lost to the larger class, 700 less 300 makes all of that node useless to it, and of 500 there
    // stay 200 for nobody, where only the larger class had no use for it. 700 of 1000 are good for both.
    assert_eq!(place(Rule::Fragmentation), Some((0, vec![1])));
}

#[test]
fn a_product_looks_at_what_is_asked_for() {
    // The second node has less left in all, the first less of what is asked for.
    let nodes = [node(8000, &[500, 0]), node(2000, &[500, 500])];
    let mix = Mix::of([]);
    let mut task = share(500);
    (task.cpu_milli, task.memory_mib) = (0, 0);
    let place = |rule| placed(rule, &nodes, &nodes, &task, &mix);
    assert_eq!(place(Rule::DotProduct), Some((0, vec![0])));
    assert_eq!(place(Rule::BestFit), Some((1, vec![0])));
}

#[test]
fn best_fit_strands_what_fragmentation_keeps() {
    // Half a GPU is left over on the first node. Best fit leaves it there, and breaks a whole one on the second, which
    // has fewer cpus left.
    let empty = [node(16000, &[1000, 1000]), node(16000, &[1000, 1000])];
    let now = [node(16000, &[1000, 500]), node(8000, &[1000, 1000])];
    let mut large = whole(1);
    large.cpu_milli = 4000;
    let half = share(500);
    let mix = Mix::of([&large, &large, &large, &half]);
    let fill = |rule| {
        let mut packer = Packer::new(rule, empty.to_vec(), &mix);
        packer.nodes = now.to_vec();
        let mut hungry = half.clone();
        hungry.cpu_milli = 4000;
        let tasks = [&hungry, &large, &large, &large];
        let failed = tasks.iter().filter(|task| packer.place(task).is_none());
        let failed = failed.count();
        let stranded: u64 = packer.nodes().iter().map(Node::gpu_milli).sum();
        (failed, stranded)
    };
    assert_eq!(fill(Rule::BestFit), (1, 1000));
    assert_eq!(fill(Rule::Fragmentation), (0, 0));
}

#[test]
fn whole_gpus_are_free_ones_and_a_task_without_any_keeps_away_from_them() {
    let nodes = [
        node(8000, &[1000, 999]),
        node(8000, &[999, 1000, 1000]),
        node(8000, &[]),
    ];
    let mut demanding = whole(1);
    demanding.cpu_milli = 8000;
    let mix = Mix::of(&[whole(2), demanding]);
    for rule in RULES {
        let place = |task: &Task| placed(rule, &nodes, &nodes, task, &mix);
        assert_eq!(place(&whole(2)), Some((1, vec![1, 2])), "{rule:?}");
        assert_eq!(place(&whole(3)), None, "{rule:?}");
    }
    let place = |rule| placed(rule, &nodes, &nodes, &task(GpuAsk::None), &mix);
    assert_eq!(place(Rule::FirstFit), Some((0, vec![])));
    assert_eq!(place(Rule::Fragmentation), Some((2, vec![])));
}

#[test]
fn of_equal_places_the_first_is_taken() {
    let nodes = vec![node(8000, &[500, 500]); 3];
    let mix = Mix::of(&[share(500), whole(1)]);
    for rule in RULES {
        let place = placed(rule, &nodes, &nodes, &share(500), &mix);
        assert_eq!(place, Some((0, vec![0])), "{rule:?}");
    }
}

#[test]
#[should_panic(expected = "what is taken was free")]
fn a_gpu_is_not_given_twice() {
    node(8000, &[1000, 1000]).take(&whole(2), &[1, 1]);
}

mod lives {
    use super::*;
    use proptest::prelude::*;

    fn nodes() -> impl Strategy<Value = Vec<Node>> {
        let node = (0..32_u32, 0..64_u64, 0..5_usize, prop::option::of(0..3_u16)).prop_map(
            |(cpus, memory_gib, gpus, model)| Node {
                cpu_milli: cpus * 1000,
                memory_mib: memory_gib * 1024,
                gpus: std::iter::repeat_n(GPU, gpus).collect(),
                model,
            },
        );
        prop::collection::vec(node, 1..8)
    }

    fn tasks() -> impl Strategy<Value = Vec<Task>> {
        let gpus = prop_oneof![
            Just(GpuAsk::None),
            (1..10_u16).prop_map(|tenths| GpuAsk::Share(tenths * 100)),
            (1..4_u16).prop_map(GpuAsk::Whole),
        ];
        let models = prop::collection::vec(0..3_u16, 0..2);
        let task =
            (gpus, models, 0..8_u32, 0..16_u64).prop_map(|(gpus, models, cpus, memory_gib)| Task {
                gpus,
                models,
                cpu_milli: cpus * 500,
                memory_mib: memory_gib * 512,
            });
        prop::collection::vec(task, 1..60)
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_what_is_given_is_what_was_asked(
            empty in nodes(),
            kinds in tasks(),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        ) {
            let mix = Mix::of(&kinds);
            for rule in RULES {
                let measure = Measure::new(rule, &empty, &mix);
                let mut packer = Packer::new(rule, empty.clone(), &mix);
                // What each node has given, added up apart from what is left there.
                let mut given = vec![(0_u64, 0_u64, [0_u64; 4]); empty.len()];
                for at in &order {
                    let task = at.get(&kinds);
                    let plain = measure.place(packer.nodes(), task);
                    let fits = packer.nodes().iter().any(|node| node.holds(task));
                    let placement = packer.place(task);
                    prop_assert_eq!(&placement, &plain, "what is remembered is what is so");
                    prop_assert_eq!(placement.is_some(), fits);
                    let Some(Placement { node, gpus }) = placement else { continue };
                    let (count, milli) = task.gpus.needs();
                    let mut different = gpus.clone();
                    different.dedup();
                    prop_assert_eq!(different.len(), count);
                    prop_assert!(task.models.is_empty()
                        || task.models.iter().any(|model| empty[node].model == Some(*model)));
                    let (cpu, memory, shares) = &mut given[node];
                    *cpu += u64::from(task.cpu_milli);
                    *memory += task.memory_mib;
                    gpus.iter().for_each(|gpu| shares[*gpu] += u64::from(milli));
                    prop_assert!(*cpu <= u64::from(empty[node].cpu_milli));
                    prop_assert!(*memory <= empty[node].memory_mib);
                    prop_assert!(shares.iter().all(|given| *given <= u64::from(GPU)));
                    let left = &packer.nodes()[node];
                    prop_assert_eq!(u64::from(left.cpu_milli) + *cpu, u64::from(empty[node].cpu_milli));
                    prop_assert_eq!(left.gpu_milli() + shares.iter().sum::<u64>(), empty[node].gpu_milli());
                }
            }
        }
    }
}
