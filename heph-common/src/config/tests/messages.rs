//! What a wrong configuration is answered with.

use super::*;

#[test]
fn all_errors_of_a_file_come_at_once() {
    insta::assert_snapshot!(errors("\
chaches: {}
fs: {skip: [../x, 'a[b'], skips: 1}
cache:
  spillThresholdBytes: lots
  maxSizeBytes: -1
  link: sometimes
cache: {}
telemetry: {enabled: yes}
daemon: {idleTimeout: 90}
lock: fs
caches: {a: {read: false}, b: {uri: 7}}
"), @"
    .hephconfig:1:1: unknown key 'chaches'
      |
    1 | chaches: {}
      | ^^^^^^^
    hint: did you mean 'caches'?

    .hephconfig:2:13: '../x' is not a pattern: '..' leaves the workspace
      |
    2 | fs: {skip: [../x, 'a[b'], skips: 1}
      |             ^^^^

    .hephconfig:2:19: 'a[b' is not a pattern: unclosed character class; missing ']'
      |
    2 | fs: {skip: [../x, 'a[b'], skips: 1}
      |                   ^^^^^

    .hephconfig:2:27: unknown key 'skips'
      |
    2 | fs: {skip: [../x, 'a[b'], skips: 1}
      |                           ^^^^^
    hint: did you mean 'skip'?

    .hephconfig:4:24: expected a size such as 65536, 512 KiB, 1.5 MB or 20 GiB, found 'lots'
      |
    4 |   spillThresholdBytes: lots
      |                        ^^^^

    .hephconfig:5:17: expected a size such as 65536, 512 KiB, 1.5 MB or 20 GiB, found '-1'
      |
    5 |   maxSizeBytes: -1
      |                 ^^

    .hephconfig:6:9: expected never, auto or always, found 'sometimes'
      |
    6 |   link: sometimes
      |         ^^^^^^^^^

    .hephconfig:7:1: key 'cache' is given twice, first in line 3
      |
    7 | cache: {}
      | ^^^^^

    .hephconfig:8:22: expected true or false, found 'yes'
      |
    8 | telemetry: {enabled: yes}
      |                      ^^^
    hint: write true, without quotes

    .hephconfig:9:23: expected a duration such as 250ms, 30s, 5m, 1h30m or 7d, found '90'
      |
    9 | daemon: {idleTimeout: 90}
      |                       ^^
    hint: the unit is missing: 90s, 90m or 90h

    .hephconfig:10:7: expected a mapping of keys, found 'fs'
       |
    10 | lock: fs
       |       ^^

    .hephconfig:11:37: expected a URI such as s3://bucket/prefix
       |
    11 | caches: {a: {read: false}, b: {uri: 7}}
       |                                     ^

    .hephconfig:11:10: cache 'a' has no uri
       |
    11 | caches: {a: {read: false}, b: {uri: 7}}
       |          ^
    ");
}

#[test]
fn wrong_values_name_the_cure() {
    let texts = [
        "version: 1.2",
        "homeDir: ~bob/x",
        "homeDir: ''",
        "homeDir:",
        "cacheEpoch: true",
        "fs: {skip: vendor}",
        "telemetry: {enabled: \"false\"}",
        "fuse: {enabled: on}",
        "fuse: {enabled: atuo}",
        "lock: {backend: disk}",
        "sandbox: {mode: strct}",
        "sandbox: {systemInputs: [include/*]}",
        "caches: [s3://bucket]",
        "caches: {'a b': {uri: file:///x}}",
        "caches: {a: {read: false}}",
        "caches: {a: {uri: s4://bucket}}",
        "caches: {a: {uri: ftp://host/x}}",
        "caches: {a: {uri: /mnt/cache}}",
        "caches: {a: {uri: file://mnt/cache}}",
        "caches: {a: {uri: 's3://'}}",
        "caches: {a: {uri: 'https://user:pw@/x'}}",
        "caches: {a: {uri: file:///x, concurrency: 0}}",
        "caches: {a: {uri: file:///x, scope: ../b}}",
        "caches: {a: {uri: file:///x, credentials: {profile: x, envPrefix: y}}}",
        "caches: {a: {uri: file:///x, signing: {required: true}}}",
        "caches: {a: {uri: file:///x, retries: 5000000000}}",
        "caches: {a: {uri: file:///x, endpoint: host}}",
        "plugins: buildfile",
        "plugins: [buildfile]",
        "plugins: [{builtin: a, path: b}]",
        "plugins: [{options: {}}]",
        "plugins: [{builtin: a}, {builtin: a}]",
        "plugins: [{builtin: a, checksum: x}]",
        "plugins: [{url: https://x/y.json, checksum: md5:abc}]",
        "plugins: [{url: x/y.json}]",
        "plugins: [{builtin: a, option: {}}]",
        "plugins: [{builtin: a, options: [x]}]",
    ];
    let all: Vec<String> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    .hephconfig:1:10: expected a version such as 1.2.3 or v1.2.3, found '1.2'
      |
    1 | version: 1.2
      |          ^^^
    .hephconfig:1:10: '~' stands for the own home directory only, as in ~/cache
      |
    1 | homeDir: ~bob/x
      |          ^^^^^^
    .hephconfig:1:10: expected a path, found an empty text
      |
    1 | homeDir: ''
      |          ^^
    .hephconfig:1:8: expected a path, found nothing
      |
    1 | homeDir:
      |        ^
    .hephconfig:1:13: expected a text, found 'true'
      |
    1 | cacheEpoch: true
      |             ^^^^
    hint: quote it: "true"
    .hephconfig:1:12: expected a list, found 'vendor'
      |
    1 | fs: {skip: vendor}
      |            ^^^^^^
    hint: write [vendor]
    .hephconfig:1:22: expected true or false, found the text "false"
      |
    1 | telemetry: {enabled: "false"}
      |                      ^^^^^^^
    hint: write false, without quotes
    .hephconfig:1:17: expected false, true or auto, found 'on'
      |
    1 | fuse: {enabled: on}
      |                 ^^
    hint: write true, without quotes
    .hephconfig:1:17: expected false, true or auto, found 'atuo'
      |
    1 | fuse: {enabled: atuo}
      |                 ^^^^
    hint: did you mean 'auto'?
    .hephconfig:1:17: expected fs or mem, found 'disk'
      |
    1 | lock: {backend: disk}
      |                 ^^^^
    .hephconfig:1:17: expected auto, strict, standard or off, found 'strct'
      |
    1 | sandbox: {mode: strct}
      |                 ^^^^^
    hint: did you mean 'strict'?
    .hephconfig:1:26: 'include/*' is not absolute: files of the workspace are declared by targets
      |
    1 | sandbox: {systemInputs: [include/*]}
      |                          ^^^^^^^^^
    .hephconfig:1:9: expected a mapping of caches by name, found a list
      |
    1 | caches: [s3://bucket]
      |         ^
    .hephconfig:1:10: 'a b' is not a name of a cache
      |
    1 | caches: {'a b': {uri: file:///x}}
      |          ^^^^^
    hint: names are made of letters, digits, '-', '_' and '.'
    .hephconfig:1:10: cache 'a' has no uri
      |
    1 | caches: {a: {read: false}}
      |          ^
    .hephconfig:1:19: unknown scheme 's4'
      |
    1 | caches: {a: {uri: s4://bucket}}
      |                   ^^^^^^^^^^^
    hint: did you mean 's3'?
    .hephconfig:1:19: unknown scheme 'ftp'
      |
    1 | caches: {a: {uri: ftp://host/x}}
      |                   ^^^^^^^^^^^^
    hint: did you mean 'http'?
    .hephconfig:1:19: expected a URI such as s3://bucket/prefix
      |
    1 | caches: {a: {uri: /mnt/cache}}
      |                   ^^^^^^^^^^
    hint: a directory is written file:///path
    .hephconfig:1:19: a file URI has three slashes and an absolute path
      |
    1 | caches: {a: {uri: file://mnt/cache}}
      |                   ^^^^^^^^^^^^^^^^
    hint: write file:///mnt/cache
    .hephconfig:1:19: the bucket behind s3:// is missing
      |
    1 | caches: {a: {uri: 's3://'}}
      |                   ^^^^^^^
    .hephconfig:1:19: the host behind https:// is missing
      |
    1 | caches: {a: {uri: 'https://user:pw@/x'}}
      |                   ^^^^^^^^^^^^^^^^^^^^
    .hephconfig:1:43: expected a number above 0, found '0'
      |
    1 | caches: {a: {uri: file:///x, concurrency: 0}}
      |                                           ^
    .hephconfig:1:37: '../b' is not a scope: expected letters, digits, '-', '_', '.' and '/', and ${branch} for the branch
      |
    1 | caches: {a: {uri: file:///x, scope: ../b}}
      |                                     ^^^^
    .hephconfig:1:43: credentials have one of the keys profile and envPrefix
      |
    1 | caches: {a: {uri: file:///x, credentials: {profile: x, envPrefix: y}}}
      |                                           ^
    .hephconfig:1:10: cache 'a' requires signatures but has no publicKeys to check them
      |
    1 | caches: {a: {uri: file:///x, signing: {required: true}}}
      |          ^
    .hephconfig:1:39: expected a smaller number, found '5000000000'
      |
    1 | caches: {a: {uri: file:///x, retries: 5000000000}}
      |                                       ^^^^^^^^^^
    .hephconfig:1:40: expected a URL that begins with https:// or http://, found 'host'
      |
    1 | caches: {a: {uri: file:///x, endpoint: host}}
      |                                        ^^^^
    .hephconfig:1:10: expected a list of plugins, found 'buildfile'
      |
    1 | plugins: buildfile
      |          ^^^^^^^^^
    hint: each begins with '- builtin:'
    .hephconfig:1:11: expected a plugin with one of the keys builtin, path and url, found 'buildfile'
      |
    1 | plugins: [buildfile]
      |           ^^^^^^^^^
    hint: write 'builtin: buildfile'
    .hephconfig:1:24: a plugin has one of builtin, path and url: 'builtin' is there too
      |
    1 | plugins: [{builtin: a, path: b}]
      |                        ^^^^
    .hephconfig:1:11: a plugin needs one of the keys builtin, path and url
      |
    1 | plugins: [{options: {}}]
      |           ^
    .hephconfig:1:35: builtin 'a' is given twice, first in line 1
      |
    1 | plugins: [{builtin: a}, {builtin: a}]
      |                                   ^
    .hephconfig:1:24: a checksum is for a 'url' only
      |
    1 | plugins: [{builtin: a, checksum: x}]
      |                        ^^^^^^^^
    .hephconfig:1:45: expected sha256: and 64 lower-case hex digits, found 'md5:abc'
      |
    1 | plugins: [{url: https://x/y.json, checksum: md5:abc}]
      |                                             ^^^^^^^
    .hephconfig:1:17: expected a URL that begins with https:// or http://, found 'x/y.json'
      |
    1 | plugins: [{url: x/y.json}]
      |                 ^^^^^^^^
    .hephconfig:1:24: unknown key 'option'
      |
    1 | plugins: [{builtin: a, option: {}}]
      |                        ^^^^^^
    hint: did you mean 'options'?
    .hephconfig:1:33: expected a mapping of options, found a list
      |
    1 | plugins: [{builtin: a, options: [x]}]
      |                                 ^
    "#);
}

#[test]
fn what_is_no_yaml_is_an_error_with_a_place() {
    let texts = [
        "a: [b\n",
        "a: b: c\n",
        "- a\n",
        "just text\n",
        "--- {}\n--- {}\n",
        "fs: *nowhere\n",
        "? [a]\n: b\n",
        "fs: !skip {}\nversion: !v 1.2.3\n",
        "fs: &a {skip: *a}\n",
        "\"unclosed\n",
    ];
    let all: Vec<String> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    .hephconfig:1:4: this is not YAML: unclosed bracket '['
      |
    1 | a: [b
      |    ^
    .hephconfig:1:5: this is not YAML: mapping values are not allowed in this context
      |
    1 | a: b: c
      |     ^
    .hephconfig:1:1: expected a mapping of keys, found a list
      |
    1 | - a
      | ^
    .hephconfig:1:1: expected a mapping of keys, found 'just text'
      |
    1 | just text
      | ^^^^^^^^^
    .hephconfig:2:1: a configuration is one document, found a second one
      |
    2 | --- {}
      | ^^^
    .hephconfig:1:5: this is not YAML: while parsing node, found unknown anchor
      |
    1 | fs: *nowhere
      |     ^
    .hephconfig:1:3: expected a key, found a list
      |
    1 | ? [a]
      |   ^
    .hephconfig:1:11: tags such as !skip have no meaning here
      |
    1 | fs: !skip {}
      |           ^

    .hephconfig:2:13: tags such as !v have no meaning here
      |
    2 | version: !v 1.2.3
      |             ^^^^^
    .hephconfig:1:15: an alias refers to what contains it
      |
    1 | fs: &a {skip: *a}
      |               ^^
    .hephconfig:1:1: this is not YAML: unclosed quote
      |
    1 | "unclosed
      | ^
    "#);
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let files = Files::new(&[]);
    insta::assert_snapshot!(files.load(&[]).unwrap_err(), @"cannot read /ws/.hephconfig: No such file or directory (os error 2)");
    fs::write(
        files.directory.path().join(FILE_NAME),
        b"lock:\n  backend: \xff\n",
    )
    .unwrap();
    insta::assert_snapshot!(files.load(&[]).unwrap_err(), @"
    .hephconfig:2:12: this is not UTF-8
      |
    2 |   backend: �
      |            ^
    ");
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = format!("fs: {{skip: [{}, {{}}]}}\n", vec!["vendor"; 100].join(", "));
    insta::assert_snapshot!(errors(&text), @"
    .hephconfig:1:813: expected a text, found a mapping
      |
    1 | r, vendor, vendor, vendor, vendor, vendor, vendor, vendor, vendor, vendor, vendor, vendor, vendor, {
      |                                                                                                    ^
    ");
}

#[test]
fn options_of_a_plugin_are_read_in_the_same_style() {
    let config = read("plugins:\n- builtin: buildfile\n  options:\n    patern: [BUILD]\n    skip: 7\n");
    let mut problems = Problems::default();
    let mut fields = Fields::of(config.plugins[0].options.as_ref().unwrap(), &mut problems);
    assert_eq!(fields.get::<Vec<String>>("patterns"), None);
    assert_eq!(fields.get::<Vec<String>>("skip"), None);
    fields.finish();
    insta::assert_snapshot!(problems.into_result(()).unwrap_err(), @"
    .hephconfig:5:11: expected a list, found '7'
      |
    5 |     skip: 7
      |           ^
    hint: write [7]

    .hephconfig:4:5: unknown key 'patern'
      |
    4 |     patern: [BUILD]
      |     ^^^^^^
    hint: did you mean 'patterns'?
    ");
}

#[test]
fn a_missing_or_broken_profile_is_an_error() {
    let files = Files::new(&[
        (FILE_NAME, ""),
        ("ci.hephconfig", "cache: [\n"),
        ("dev.hephconfig", "lock: 1\n"),
    ]);
    insta::assert_snapshot!(files.load(&["c1", "ci", "dev", "../x"]).unwrap_err(), @"
    profile 'c1' does not exist: there is no /ws/c1.hephconfig
    hint: did you mean 'ci'?

    ci.hephconfig:1:8: this is not YAML: unclosed bracket '['
      |
    1 | cache: [
      |        ^

    dev.hephconfig:1:7: expected a mapping of keys, found '1'
      |
    1 | lock: 1
      |       ^

    '../x' is not the name of a profile
    hint: a profile <name> is the file <name>.hephconfig in the root
    ");
    assert_eq!(profile_names(" ci, ,dev,"), ["ci", "dev"]);
}
