//! `.hephconfig`, its profiles, and the user's own layer.

use crate::surroundings::Surroundings;

#[test]
fn all_errors_of_a_file_are_shown_at_once() {
    let here =
        Surroundings::with_config("plugin: []\ncache:\n  spillThresholdBytes: many\nlock: {backend: fss}\n");
    insta::assert_snapshot!(here.heph(&["query", "//..."]), @"
    exit 2
    --- err
    error: .hephconfig:1:1: unknown key 'plugin'
      |
    1 | plugin: []
      | ^^^^^^
    hint: did you mean 'plugins'?

    error: .hephconfig:3:24: expected a size such as 65536, 512 KiB, 1.5 MB or 20 GiB, found 'many'
      |
    3 |   spillThresholdBytes: many
      |                        ^^^^

    error: .hephconfig:4:17: expected fs or mem, found 'fss'
      |
    4 | lock: {backend: fss}
      |                 ^^^
    hint: did you mean 'fs'?
    ");
}

#[test]
fn a_profile_that_is_missing_is_an_error() {
    let here = Surroundings::with_config("");
    here.write("ci.hephconfig", "");
    insta::assert_snapshot!(here.say(here.command(&["query", "//..."]).env("HEPH_PROFILES", "c")), @"
    exit 2
    --- err
    error: profile 'c' does not exist: there is no [TOP]/work/c.hephconfig
    hint: did you mean 'ci'?
    ");
}

#[test]
fn external_plugins_say_that_they_are_not_loaded() {
    let here =
        Surroundings::with_config("plugins:\n  - path: ./plugin.json\n  - url: https://example.com/p.json\n");
    insta::assert_snapshot!(here.heph(&["query", "//..."]), @"
    exit 2
    --- err
    error: .hephconfig:2:11: path plugins are not loaded by this release of heph
      |
    2 |   - path: ./plugin.json
      |           ^^^^^^^^^^^^^
    hint: remove the entry; every plugin of this release is builtin

    error: .hephconfig:3:10: url plugins are not loaded by this release of heph
      |
    3 |   - url: https://example.com/p.json
      |          ^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: remove the entry; every plugin of this release is builtin
    ");
}

#[test]
fn the_merged_configuration_says_where_values_came_from() {
    let here = Surroundings::with_config("lock: {backend: mem}\ncaches:\n  shared: {uri: 'file:///x'}\n");
    here.write("ci.hephconfig", "caches:\n  shared: {write: false}\n");
    here.write("../user/.config/heph/hephconfig", "telemetry: {enabled: false}\n");
    let shown = here.say(here.command(&["inspect", "config"]).env("HEPH_PROFILES", "ci"));
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| !line.ends_with("# default"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    exit 0
    --- out
    # root: [TOP]/work
    # home: [TOP]/user/.heph
    # file: [TOP]/user/.config/heph/hephconfig
    # file: [TOP]/work/.hephconfig
    # file: [TOP]/work/ci.hephconfig
    caches.shared.uri: file:///x            # .hephconfig:3
    caches.shared.write: false              # ci.hephconfig:2
    lock.backend: mem                       # .hephconfig:1
    telemetry.enabled: false                # [TOP]/user/.config/heph/hephconfig:1
    ");
    let document = here.heph(&["inspect", "config", "--json"]);
    assert!(
        document.contains(r#"{"from":".hephconfig:1","key":"lock.backend","value":"mem"}"#),
        "{document}"
    );
}
