//! Laws of the states of a run, over random graphs and random ends.

use std::collections::{BTreeMap, HashSet};

use heph_common::Address;
use proptest::prelude::*;

use super::*;
use crate::definition::{Action, CachePolicy, Definition, Dependency, GroupAction, Role, Transitive};
use crate::graph::link::{Definitions, link};
use crate::problem::Problem;

/// What each target needs, by number: only lower ones, so that there is no cycle.
type Needs = Vec<Vec<usize>>;

fn address(number: usize) -> Address {
    Address {
        package: String::new(),
        name: format!("t{number}"),
        args: BTreeMap::new(),
        output: None,
    }
}

struct Known<'a>(&'a Needs);

impl Definitions for Known<'_> {
    fn definition(&self, wanted: &Address, _: Option<&Definition>) -> Result<Arc<Definition>, Problem> {
        let number: usize = wanted.name[1..].parse().unwrap();
        let need = |need: &usize| Dependency {
            role: Role::Source,
            group: String::new(),
            address: address(*need),
        };
        Ok(Arc::new(Definition {
            address: wanted.clone(),
            place: None,
            driver: "group".into(),
            labels: Vec::new(),
            description: None,
            dependencies: self.0[number].iter().map(need).collect(),
            action: Action::Group(GroupAction::default()),
            transitive: Transitive::default(),
            approval: None,
            timeout: None,
            cache: CachePolicy::default(),
            retries: 0,
            exclusive: false,
            slots: 1,
        }))
    }

    fn selected(&self, _: &Definition) -> Result<Vec<Address>, Problem> {
        Ok(Vec::new())
    }
}

/// What happens next; numbers choose among the targets to which it can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next ready target is looked at and gets this far.
    Step(State),
    /// A target gets its product.
    Done(usize),
    /// A target fails.
    Failed(usize),
    /// A target has to be looked at again.
    Again(usize),
    /// What a target has made is gone.
    Renew(usize),
}

fn event(failures: bool, renewals: bool) -> impl Strategy<Value = Event> {
    let held = prop_oneof![
        Just(State::Locked),
        Just(State::Queued),
        Just(State::Running),
        Just(State::Writing)
    ];
    let fails = u32::from(failures);
    let renews = u32::from(renewals);
    prop_oneof![
        6 => held.prop_map(Event::Step),
        4 => any::<usize>().prop_map(Event::Done),
        fails => any::<usize>().prop_map(Event::Failed),
        renews => any::<usize>().prop_map(Event::Again),
        renews => any::<usize>().prop_map(Event::Renew),
    ]
}

fn needs() -> impl Strategy<Value = Needs> {
    proptest::collection::vec(proptest::collection::vec(any::<usize>(), 0..4), 1..12).prop_map(|raw| {
        let below = |(number, needs): (usize, Vec<usize>)| {
            let needs: HashSet<usize> = needs
                .into_iter()
                .filter(|_| number > 0)
                .map(|need| need % number.max(1))
                .collect();
            needs.into_iter().collect()
        };
        raw.into_iter().enumerate().map(below).collect()
    })
}

struct World {
    graph: Graph,
    order: Vec<Id>,
    tasks: Tasks,
    /// Targets that have failed or been skipped, in the order in which that was said.
    ended: Vec<Id>,
}

impl World {
    fn new(needs: &Needs) -> Self {
        let mut graph = Graph::default();
        let all: Vec<Address> = (0..needs.len()).map(address).collect();
        let ids = link(&mut graph, &Known(needs), &all).unwrap();
        let order = graph.closure(&ids);
        let tasks = Tasks::new(&graph, &order, false);
        Self {
            graph,
            order,
            tasks,
            ended: Vec::new(),
        }
    }

    fn state(&self, id: Id) -> State {
        self.tasks.get(id).state
    }

    fn needs(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        self.graph.node(id).links.iter().map(|link| link.target)
    }

    fn pick(&self, number: usize, states: &[State]) -> Option<Id> {
        let fitting: Vec<Id> = self
            .order
            .iter()
            .copied()
            .filter(|id| states.contains(&self.state(*id)))
            .collect();
        (!fitting.is_empty()).then(|| fitting[number % fitting.len()])
    }

    /// `false` when there was nothing to which it could happen.
    fn apply(&mut self, event: Event) -> bool {
        const HELD: &[State] = &[State::Locked, State::Queued, State::Running, State::Writing];
        match event {
            Event::Step(state) => {
                let Some(id) = self.tasks.next_ready() else {
                    return false;
                };
                assert!(
                    self.needs(id).all(|need| self.state(need) == State::Done),
                    "{id:?} is ready before its needs"
                );
                self.tasks.set(id, state);
            }
            Event::Done(number) => {
                let Some(id) = self.pick(number, HELD) else {
                    return false;
                };
                self.tasks
                    .done(id, Product::new(Vec::new(), Vec::new()), TargetOutcome::Executed);
            }
            Event::Failed(number) => {
                let Some(id) = self.pick(number, HELD) else {
                    return false;
                };
                let skipped = self.tasks.failed(id, TargetOutcome::Failed);
                self.ended.push(id);
                self.ended.extend(skipped);
            }
            Event::Again(number) => {
                let Some(id) = self.pick(number, HELD) else {
                    return false;
                };
                let skipped = self.tasks.again(&self.graph, id);
                self.ended.extend(skipped);
            }
            Event::Renew(number) => {
                let Some(id) = self.pick(number, &[State::Done]) else {
                    return false;
                };
                let skipped = self.tasks.renew(&self.graph, id);
                self.ended.extend(skipped);
            }
        }
        self.check();
        true
    }

    fn check(&self) {
        let mut open = 0;
        for &id in &self.order {
            let task = self.tasks.get(id);
            open += usize::from(!task.state.is_final());
            let undone = self
                .needs(id)
                .filter(|need| self.state(*need) != State::Done)
                .count();
            match task.state {
                State::Ready => assert_eq!(undone, 0, "{id:?} is ready"),
                State::Waiting => {
                    assert!(
                        undone > 0 && undone == task.pending as usize,
                        "{id:?} waits for {}, not {undone}",
                        task.pending
                    );
                    assert!(
                        self.needs(id).all(|need| self.state(need) != State::Failed),
                        "{id:?} waits for what has failed"
                    );
                }
                State::Done => assert!(self.tasks.product(id).is_some()),
                _ => {}
            }
        }
        assert_eq!(self.tasks.finished(), open == 0);
        assert_eq!(self.tasks.unfinished().len(), open);
        let failed = self
            .order
            .iter()
            .filter(|id| self.state(**id) == State::Failed)
            .count();
        assert_eq!(
            self.ended.len(),
            failed,
            "every failure is said, and said once: {:?}",
            self.ended
        );
    }

    /// Lets everything that is left succeed.
    fn finish(&mut self) {
        while !self.tasks.finished() {
            let moved = self.apply(Event::Step(State::Running)) | self.apply(Event::Done(0));
            assert!(
                moved,
                "nothing can happen, and {:?} have not ended",
                self.tasks.unfinished()
            );
        }
        assert!(self.tasks.next_ready().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_made_once_after_what_it_needs(needs in needs(), events in proptest::collection::vec(event(false, false), 0..40)) {
        let mut world = World::new(&needs);
        world.check();
        for event in events {
            world.apply(event);
        }
        world.finish();
        prop_assert!(world.order.iter().all(|id| world.state(*id) == State::Done));
    }

    #[test]
    fn what_needs_a_failure_is_skipped_and_nothing_else(needs in needs(), events in proptest::collection::vec(event(true, false), 0..40)) {
        let mut world = World::new(&needs);
        for event in events {
            world.apply(event);
        }
        world.finish();
        for &id in &world.order {
            let below = world.needs(id).any(|need| world.state(need) == State::Failed);
            let outcome = world.tasks.get(id).outcome;
            prop_assert_eq!(outcome == TargetOutcome::Skipped, below);
            prop_assert_eq!(world.state(id) == State::Done, outcome == TargetOutcome::Executed);
        }
    }

    #[test]
    fn whatever_is_renewed_the_run_ends(needs in needs(), events in proptest::collection::vec(event(true, true), 0..80)) {
        let mut world = World::new(&needs);
        for event in events {
            world.apply(event);
        }
        world.finish();
    }
}
