//! How far a setting reaches.

/// What a setting holds for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SettingReach {
    /// Everyone who shares the home: set in the user's layer, or by the workspace that names the home.
    Home,
    /// One request of one client.
    Request,
    /// All requests in the workspace.
    Workspace,
}

/// Keys that do not hold for the workspace, with what they hold for. `*` is any one name; a section means all of it.
pub const REACHES: [(&str, SettingReach); 6] = [
    ("cache", SettingReach::Home),
    ("memCache", SettingReach::Home),
    ("daemon", SettingReach::Home),
    ("uploads", SettingReach::Home),
    ("caches.*.read", SettingReach::Request),
    ("caches.*.write", SettingReach::Request),
];

/// What the setting at `key`, such as `caches.shared.read`, holds for.
pub fn reach(key: &str) -> SettingReach {
    let matches = |pattern: &str| {
        let mut parts = key.split('.');
        pattern
            .split('.')
            .all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
    };
    REACHES
        .iter()
        .find(|(pattern, _)| matches(pattern))
        .map_or(SettingReach::Workspace, |(_, reach)| *reach)
}
