//! Orders in words that an earlier build knows: a worker's, or a shepherd's that an earlier agent has started.
//!
//! What changes nothing that a step computes is left out for it. A step that would not do what was asked for is started
//! as a program that says so and fails: an order cannot be answered, and one that is not understood would cut the link.

use super::hello::{VERSION_GANGS, VERSION_PEERS, VERSION_PLACES, VERSION_SPAWN};
use super::worker::{SignalTarget, SlotLaunch, StepLaunch, StepOrder, ToSlot};
use crate::model::ids::BlobId;
use crate::model::job::Launch;
use std::sync::Arc;

/// What a step of which this build is too old to know everything runs instead.
fn refusal() -> Vec<String> {
    let text = "hpc: this node is served by an earlier build, which cannot place ranks, name programs or write files for each, \
                or start what a rank asks for, as this step needs; it can once it runs the build of the controller, for jobs \
                that start then";
    vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        "echo \"$0\" >&2; exit 1".to_owned(),
        text.to_owned(),
    ]
}

/// An order for a worker or shepherd of this version of the protocol; `None` = it needs none.
#[must_use]
pub fn order_for(version: u16, order: ToSlot) -> Option<ToSlot> {
    match order {
        // It waits for none.
        ToSlot::Go if version < VERSION_GANGS => None,
        ToSlot::StartStepAs(step)
            if version < VERSION_PLACES
                || version < VERSION_SPAWN && step.options.spawned().is_some() =>
        {
            Some(step_for(version, &step))
        }
        ToSlot::Launch(mut launch) if version < VERSION_PLACES => {
            launch_for(version, &mut launch);
            Some(ToSlot::Launch(launch))
        }
        ToSlot::Signal {
            signal,
            to: SignalTarget::Step(_),
        } if version < VERSION_PLACES => Some(ToSlot::Signal {
            signal,
            to: SignalTarget::Steps,
        }),
        // It could end all of them only.
        ToSlot::Signal {
            to: SignalTarget::EndStep(_),
            ..
        } if version < VERSION_PLACES => None,
        // What lives on after SIGTERM is ended with the job.
        ToSlot::Signal {
            signal,
            to: SignalTarget::EndStep(step),
        } if version < VERSION_SPAWN => Some(ToSlot::Signal {
            signal,
            to: SignalTarget::Step(step),
        }),
        // Its nodes could not say it, so it is not waited for.
        ToSlot::Peer { frame, .. } if frame.needs().0 > version.max(VERSION_PEERS) => None,
        order => Some(order),
    }
}

fn step_for(version: u16, step: &StepOrder) -> ToSlot {
    match step.options.of_peers() {
        Some(options) if version >= VERSION_PEERS => ToSlot::StartStepAs(Arc::new(StepOrder {
            launch: step.launch.clone(),
            options,
        })),
        // It knows no options, and starts steps as it always has.
        Some(_) => ToSlot::StartStep(Arc::new(step.launch.clone())),
        None => ToSlot::StartStep(Arc::new(StepLaunch {
            arguments: refusal(),
            ..step.launch.clone()
        })),
    }
}

fn launch_for(version: u16, launch: &mut SlotLaunch) {
    let Launch::Step { arguments, options } = &launch.spec.launch else {
        return;
    };
    let arguments = *arguments;
    let simpler = match options.of_peers() {
        Some(options) if version >= VERSION_PEERS => Launch::Step { arguments, options },
        Some(_) => Launch::Tasks { arguments },
        None => {
            replace(launch, arguments, &refusal());
            Launch::Tasks { arguments }
        }
    };
    Arc::make_mut(&mut launch.spec).launch = simpler;
}

fn replace(launch: &mut SlotLaunch, id: BlobId, words: &[String]) {
    let known = launch.blobs.iter_mut().find(|(other, _)| *other == id);
    if let Some((_, bytes)) = known {
        *bytes = postcard::to_stdvec(words).expect("our own words serialise");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::distribution::Distribution;
    use crate::model::ids::StepId;
    use crate::model::spawn::{SpawnRequest, Spawned};
    use crate::model::step::{Mpi, StepOption, StepOptions};

    fn order(said: Vec<StepOption>) -> ToSlot {
        let mut options = StepOptions::default();
        for option in said {
            options.say(option);
        }
        ToSlot::StartStepAs(Arc::new(StepOrder {
            launch: StepLaunch {
                step: StepId(4),
                arguments: vec!["./solve".to_owned()],
                environment: Vec::new(),
                work_dir: "/".to_owned(),
                tasks: vec![2, 2],
                cpus_per_task: 1,
            },
            options,
        }))
    }

    fn said(order: &ToSlot) -> (Vec<String>, Option<StepOptions>) {
        match order {
            ToSlot::StartStep(step) => (step.arguments.clone(), None),
            ToSlot::StartStepAs(step) => {
                (step.launch.arguments.clone(), Some(step.options.clone()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_build_hears_of_options_what_it_knows() {
        let mpi = StepOption::Mpi(Mpi::Pmi2);
        let cpus = StepOption::Cpus(Vec::new());
        let asked = order(vec![mpi.clone(), cpus]);
        assert_eq!(
            order_for(VERSION_PLACES, asked.clone()),
            Some(asked.clone())
        );
        let peers = order_for(VERSION_PEERS, asked.clone()).unwrap();
        assert_eq!(peers, order(vec![mpi]));
        let gangs = order_for(VERSION_GANGS, asked).unwrap();
        assert_eq!(said(&gangs), (vec!["./solve".to_owned()], None));
    }

    #[test]
    fn a_build_that_would_do_something_else_says_so_and_fails() {
        let asked = order(vec![StepOption::Distribution(Distribution::Cyclic)]);
        for version in [1, VERSION_GANGS, VERSION_PEERS] {
            let order = order_for(version, asked.clone()).unwrap();
            let (words, options) = said(&order);
            assert_eq!((words, options), (refusal(), None));
        }
    }

    #[test]
    fn what_a_rank_asked_for_is_not_started_where_nobody_would_know_that() {
        let asked = order(vec![StepOption::Spawned(Box::new(Spawned {
            parent: StepId(0),
            rank: 0,
            request: SpawnRequest::default(),
        }))]);
        let step = order_for(VERSION_SPAWN, asked.clone());
        assert_eq!(step, Some(asked.clone()));
        let older = order_for(VERSION_SPAWN - 1, asked).unwrap();
        assert_eq!(said(&older), (refusal(), None));
    }

    #[test]
    fn one_step_is_ended_as_far_as_a_build_can() {
        let to = |to| ToSlot::Signal { signal: 15, to };
        let end = to(SignalTarget::EndStep(StepId(3)));
        assert_eq!(order_for(VERSION_SPAWN, end.clone()), Some(end.clone()));
        let asked = to(SignalTarget::Step(StepId(3)));
        assert_eq!(order_for(VERSION_PLACES, end.clone()), Some(asked));
        assert_eq!(
            order_for(VERSION_PLACES - 1, end),
            None,
            "it would end all steps"
        );
    }

    #[test]
    fn what_waits_for_no_word_is_told_none() {
        assert_eq!(order_for(1, ToSlot::Go), None);
        assert_eq!(order_for(VERSION_GANGS, ToSlot::Go), Some(ToSlot::Go));
    }
}
