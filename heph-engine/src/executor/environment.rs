//! The environment of a command: constants, and what the plan says.

use std::path::Path;
use std::sync::Arc;

use heph_proto::variable_part::Part;
use heph_proto::{Plan, Tool};

use super::base::Base;
use super::protocol::{INSIDE, INSIDE_BASE};

/// Where things are, as the command sees them.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// The sandbox's top directory.
    pub(super) top: String,
    /// The directory of the base set.
    base: String,
    /// The base set.
    programs: Arc<Vec<Tool>>,
}

impl Inside {
    /// Fixed places: the same in every sandbox.
    pub(super) fn strict(base: Option<&Base>) -> Self {
        Self {
            top: INSIDE.to_owned(),
            base: INSIDE_BASE.to_owned(),
            programs: programs(base),
        }
    }

    /// The places of the machine.
    pub(super) fn standard(top: &Path, base: Option<&Base>) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Self {
            top: text(top),
            base: base.map(|base| text(&base.path)).unwrap_or_default(),
            programs: programs(base),
        }
    }

    /// Whether the base set has a program of this name.
    pub(super) fn has_program(&self, name: &str) -> bool {
        self.programs.iter().any(|tool| tool.name == name)
    }

    /// A path below the top directory, made absolute.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.top)
    }

    /// The directory that the command starts in.
    pub(super) fn directory(&self, plan: &Plan) -> String {
        match plan.package.as_str() {
            "" => self.path("ws"),
            package => self.path(&format!("ws/{package}")),
        }
    }

    /// The directories of PATH, in order.
    fn search_path(&self, plan: &Plan) -> String {
        let mut path = self.path("bin");
        for directory in [&self.base].into_iter().chain(&plan.extra_path) {
            if !directory.is_empty() {
                path.push(':');
                path.push_str(directory);
            }
        }
        path
    }

    /// A program without a slash, where PATH finds it; `None` when it does not.
    ///
    /// Tools and base set are known from the plan, so only the directories of `extra_path` are looked at.
    pub(super) fn find_program(&self, plan: &Plan, name: &str) -> Option<String> {
        if name.contains('/') {
            return Some(name.to_owned());
        }
        if plan.tools.iter().any(|tool| tool.name == name) {
            return Some(self.path(&format!("bin/{name}")));
        }
        if self.has_program(name) {
            return Some(format!("{}/{name}", self.base));
        }
        plan.extra_path
            .iter()
            .map(|directory| format!("{directory}/{name}"))
            .find(|path| {
                rustix::fs::access(path.as_str(), rustix::fs::Access::EXEC_OK).is_ok()
                    && Path::new(path).is_file()
            })
    }

    /// `NAME=value` for every variable. What the plan says replaces a constant of the same name.
    pub(super) fn environment(&self, plan: &Plan) -> Vec<Vec<u8>> {
        let constants = [
            ("HEPH_TARGET", plan.address.clone()),
            ("HOME", self.path("home")),
            ("LANG", "C.UTF-8".to_owned()),
            ("PATH", self.search_path(plan)),
            ("SHELL", "/bin/sh".to_owned()),
            ("TMPDIR", self.path("tmp")),
            ("TZ", "UTC".to_owned()),
            ("USER", "heph".to_owned()),
            ("WORKSPACE_ROOT", self.path("ws")),
        ];
        let mut environment = Vec::with_capacity(constants.len() + plan.environment.len());
        for (name, value) in constants {
            if !plan.environment.iter().any(|variable| variable.name == name) {
                environment.push(format!("{name}={value}").into_bytes());
            }
        }
        for variable in &plan.environment {
            let mut text = format!("{}=", variable.name);
            for part in &variable.parts {
                match &part.part {
                    Some(Part::Text(value)) => text.push_str(value),
                    Some(Part::SandboxPath(below)) => text.push_str(&self.path(below)),
                    None => {}
                }
            }
            environment.push(text.into_bytes());
        }
        environment
    }
}

fn programs(base: Option<&Base>) -> Arc<Vec<Tool>> {
    base.map(|base| Arc::clone(&base.programs)).unwrap_or_default()
}
