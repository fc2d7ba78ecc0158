//! The state of every target during one run.

use std::collections::VecDeque;
use std::sync::Arc;

use heph_proto::TargetOutcome;

use crate::gather::Products;
use crate::graph::{Graph, Id};
use crate::product::Product;
use crate::workspace::Settled;

/// Where a target is in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not part of the run.
    Absent,
    /// Some of what it needs is not done.
    Waiting,
    /// All it needs is done.
    Ready,
    /// The remote caches are asked, or contents are fetched from them.
    Remote,
    /// Somebody else works on the same key.
    Locked,
    /// It has to run and waits for a job slot.
    Queued,
    /// The client runs it.
    Running,
    /// The client writes its outputs to the tree.
    Writing,
    /// It has a product.
    Done,
    /// It has none and never will in this run.
    Failed,
}

impl State {
    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Absent | Self::Done | Self::Failed)
    }
}

/// One target of the run.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where it is.
    pub state: State,
    /// While waiting: how many of the targets it needs are not done.
    pub pending: u32,
    /// How it ended, last time.
    pub outcome: TargetOutcome,
    /// Whether stored results are ignored: `--force`, or because content of its stored result is gone.
    pub forced: bool,
    /// Times it was made anew because content was gone or an input changed under it.
    pub renewals: u8,
    /// Failed tries of its command.
    pub retries: u32,
}

/// Products by number of the node.
pub type ProductsByNode = Vec<Option<Arc<Product>>>;

/// Who depends on a node, by its number, within one run.
pub type Dependants = Arc<Vec<Vec<Id>>>;

/// All targets of a run, by their number in the graph.
#[derive(Debug)]
pub struct Tasks {
    tasks: Vec<Task>,
    products: ProductsByNode,
    dependants: Dependants,
    ready: VecDeque<Id>,
    unfinished: usize,
}

impl Products for Tasks {
    fn product(&self, id: Id) -> Option<&Arc<Product>> {
        self.products.get(id.index())?.as_ref()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "the vectors have a place for every node of the graph"
)]
impl Tasks {
    /// The tasks of a run over `order`, a closure with dependencies first.
    pub fn new(graph: &Graph, order: &[Id], forced: bool) -> Self {
        let absent = Task {
            state: State::Absent,
            pending: 0,
            outcome: TargetOutcome::Unspecified,
            forced,
            renewals: 0,
            retries: 0,
        };
        let mut dependants = vec![Vec::new(); graph.len()];
        let mut tasks = vec![absent; graph.len()];
        for &id in order {
            tasks[id.index()].state = State::Waiting;
            for link in &graph.node(id).links {
                let dependants: &mut Vec<Id> = &mut dependants[link.target.index()];
                if dependants.last() != Some(&id) {
                    dependants.push(id);
                }
            }
        }
        let mut tasks = Self {
            tasks,
            products: vec![None; graph.len()],
            dependants: Arc::new(dependants),
            ready: VecDeque::new(),
            unfinished: order.len(),
        };
        for &id in order {
            tasks.wait(graph, id);
        }
        tasks
    }

    /// Tasks of a run over `order` that rests on an earlier one: only what is affected is not done.
    pub fn since(graph: &Graph, order: &[Id], settled: &Settled, affected: &[Id]) -> Self {
        let task = |state, outcome| Task {
            state,
            pending: 0,
            outcome,
            forced: false,
            renewals: 0,
            retries: 0,
        };
        let mut tasks = vec![task(State::Absent, TargetOutcome::Unspecified); graph.len()];
        for &id in order {
            tasks[id.index()] = task(State::Done, TargetOutcome::UpToDate);
        }
        let mut products = settled.products.clone();
        for &id in affected {
            tasks[id.index()] = task(State::Waiting, TargetOutcome::Unspecified);
            products[id.index()] = None;
        }
        let mut tasks = Self {
            tasks,
            products,
            dependants: Arc::clone(&settled.dependants),
            ready: VecDeque::new(),
            unfinished: affected.len(),
        };
        for &id in affected {
            tasks.wait(graph, id);
        }
        tasks
    }

    /// What all targets gave, and who depends on whom; the run is over.
    pub fn take_products(&mut self) -> (ProductsByNode, Dependants) {
        (std::mem::take(&mut self.products), Arc::clone(&self.dependants))
    }

    /// The task of a node.
    pub fn get(&self, id: Id) -> &Task {
        &self.tasks[id.index()]
    }

    /// The task of a node, to be changed in all but its state.
    pub fn get_mut(&mut self, id: Id) -> &mut Task {
        &mut self.tasks[id.index()]
    }

    /// Whether every target has ended.
    pub fn finished(&self) -> bool {
        self.unfinished == 0
    }

    /// The next target whose needs are all done.
    pub fn next_ready(&mut self) -> Option<Id> {
        while let Some(id) = self.ready.pop_front() {
            if self.get(id).state == State::Ready {
                return Some(id);
            }
        }
        None
    }

    /// Moves a target that has not ended to another state that is not an end.
    pub fn set(&mut self, id: Id, state: State) {
        debug_assert!(!state.is_final() && state != State::Waiting && state != State::Ready);
        self.tasks[id.index()].state = state;
    }

    /// A target has its product: whoever waited for it may become ready.
    pub fn done(&mut self, id: Id, product: Arc<Product>, outcome: TargetOutcome) {
        self.products[id.index()] = Some(product);
        self.end(id, State::Done, outcome);
        for index in 0..self.dependants[id.index()].len() {
            let dependant = self.dependants[id.index()][index];
            let task = &mut self.tasks[dependant.index()];
            if task.state == State::Waiting {
                task.pending -= 1;
                if task.pending == 0 {
                    task.state = State::Ready;
                    self.ready.push_back(dependant);
                }
            }
        }
    }

    /// A target that is done has another product than was thought; whoever used the old one keeps it.
    pub fn replace(&mut self, id: Id, product: Arc<Product>) {
        self.products[id.index()] = Some(product);
    }

    /// A target has no product. Gives the targets that cannot be made because of it, nearest first; they are failed too.
    pub fn failed(&mut self, id: Id, outcome: TargetOutcome) -> Vec<Id> {
        self.end(id, State::Failed, outcome);
        let mut skipped = Vec::new();
        let mut pending = VecDeque::from([id]);
        while let Some(id) = pending.pop_front() {
            for index in 0..self.dependants[id.index()].len() {
                let dependant = self.dependants[id.index()][index];
                if self.tasks[dependant.index()].state == State::Waiting {
                    self.end(dependant, State::Failed, TargetOutcome::Skipped);
                    skipped.push(dependant);
                    pending.push_back(dependant);
                }
            }
        }
        skipped
    }

    fn end(&mut self, id: Id, state: State, outcome: TargetOutcome) {
        let task = &mut self.tasks[id.index()];
        if !task.state.is_final() {
            self.unfinished -= 1;
        }
        task.state = state;
        task.outcome = outcome;
    }

    /// A target has to be made again, though it was done: everything that used it, and is not running, waits for it.
    ///
    /// Gives the targets that cannot be made again, because something they need has failed meanwhile; they are failed.
    pub fn renew(&mut self, graph: &Graph, id: Id) -> Vec<Id> {
        let mut pending = vec![id];
        let mut hopeless = Vec::new();
        while let Some(id) = pending.pop() {
            if self.get(id).state != State::Done {
                continue;
            }
            self.tasks[id.index()].state = State::Waiting;
            self.unfinished += 1;
            for index in 0..self.dependants[id.index()].len() {
                let dependant = self.dependants[id.index()][index];
                match self.get(dependant).state {
                    State::Waiting => self.tasks[dependant.index()].pending += 1,
                    State::Ready | State::Remote | State::Locked | State::Queued => {
                        self.tasks[dependant.index()].state = State::Waiting;
                        self.tasks[dependant.index()].pending = 1;
                    }
                    State::Done => pending.push(dependant),
                    State::Running | State::Writing | State::Absent | State::Failed => {}
                }
            }
            if !self.wait(graph, id) {
                hopeless.push(id);
            }
        }
        hopeless.into_iter().flat_map(|id| self.skip(id)).collect()
    }

    /// Looks at a target's needs again and makes it ready when they are done.
    ///
    /// Gives the targets that cannot be made, because something they need has failed meanwhile; they are failed.
    pub fn again(&mut self, graph: &Graph, id: Id) -> Vec<Id> {
        self.tasks[id.index()].state = State::Waiting;
        if self.wait(graph, id) {
            Vec::new()
        } else {
            self.skip(id)
        }
    }

    fn skip(&mut self, id: Id) -> Vec<Id> {
        if self.get(id).state != State::Waiting {
            return Vec::new();
        }
        let above = self.failed(id, TargetOutcome::Skipped);
        std::iter::once(id).chain(above).collect()
    }

    /// Counts what a target waits for. `false` when some of it has failed: waiting would never end.
    fn wait(&mut self, graph: &Graph, id: Id) -> bool {
        let mut needs: Vec<Id> = graph.node(id).links.iter().map(|link| link.target).collect();
        needs.sort_unstable();
        needs.dedup();
        let pending = needs
            .iter()
            .filter(|need| self.get(**need).state != State::Done)
            .count() as u32;
        let task = &mut self.tasks[id.index()];
        task.pending = pending;
        if pending == 0 {
            task.state = State::Ready;
            self.ready.push_back(id);
        }
        !needs.iter().any(|need| self.get(*need).state == State::Failed)
    }

    /// Numbers of the targets that have not ended.
    pub fn unfinished(&self) -> Vec<Id> {
        let open = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| !task.state.is_final());
        open.map(|(index, _)| Id(index as u32)).collect()
    }
}

#[cfg(test)]
mod tests;
