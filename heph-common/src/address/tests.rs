use proptest::prelude::*;

use super::*;

fn message(error: ParseAddressError) -> String {
    match &error.hint {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn all_parts_are_read() {
    let address = Address::parse(r#"//cmd/server:bin.o@os=linux,flags="-O2, \"x\"",a=""|debug"#).unwrap();
    assert_eq!(address.package, "cmd/server");
    assert_eq!(address.name, "bin.o");
    assert_eq!(
        address.args,
        BTreeMap::from([
            ("os".to_owned(), "linux".to_owned()),
            ("flags".to_owned(), "-O2, \"x\"".to_owned()),
            ("a".to_owned(), String::new()),
        ])
    );
    assert_eq!(address.output.as_deref(), Some("debug"));
    assert_eq!(
        address.to_string(),
        r#"//cmd/server:bin.o@a="",flags="-O2, \"x\"",os=linux|debug"#
    );
}

#[test]
fn paths_and_globs_need_no_quotes() {
    for text in [
        "//@heph/fs:file@f=src/main.c",
        "//@heph/fs:glob@e=a,p=**/*.[ch]",
        "//:root",
        "//packages/@scope/app:build",
        "//a:lib/x.o",
        "//a:t@expr=label=x:y@z",
    ] {
        assert_eq!(Address::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn relative_forms_resolve_against_the_package() {
    let resolve = |text, current| Address::parse_relative(text, current).unwrap().to_string();
    assert_eq!(resolve(":bin", "cmd/server"), "//cmd/server:bin");
    assert_eq!(resolve(":bin", ""), "//:bin");
    assert_eq!(resolve("./sub:bin", "cmd"), "//cmd/sub:bin");
    assert_eq!(resolve("./sub:bin", ""), "//sub:bin");
    assert_eq!(resolve(".:bin", "cmd"), "//cmd:bin");
    assert_eq!(resolve("../x:bin@a=1|o", "cmd/server"), "//cmd/x:bin@a=1|o");
    assert_eq!(resolve("..:bin", "cmd"), "//:bin");
    assert_eq!(resolve("//x:bin", "cmd"), "//x:bin");
}

#[test]
fn messages_name_the_place_and_what_was_expected() {
    let texts = [
        "",
        "bin",
        "cmd:bin",
        "/cmd:bin",
        "//cmd",
        "//cmd/...",
        "//cmd:",
        "//cmd//x:bin",
        "//cmd/:bin",
        "///cmd:bin",
        "//cmd/../x:bin",
        "//cmd:a b",
        "//cmd:bin@",
        "//cmd:bin@os",
        "//cmd:bin@os=",
        "//cmd:bin@os=a b",
        "//cmd:bin@os=\"a",
        "//cmd:bin@os=\"a\\q\"",
        "//cmd:bin@os=a,os=b",
        "//cmd:bin@os=\"a\"x",
        "//cmd:bin|",
        "//cmd:bin|a|b",
        "//cmd:bin:x",
        "//größe:a\u{7}b",
    ];
    let mut shown = String::new();
    for text in texts {
        shown += &message(Address::parse(text).unwrap_err());
        shown.push('\n');
    }
    insta::assert_snapshot!(shown, @r#"
    '' is not an address, at column 1: expected '//', found the end
    'bin' is not an address, at column 1: expected '//', found 'b'
    'cmd:bin' is not an address, at column 1: expected '//', found 'c'
    hint: write '//cmd:bin'
    '/cmd:bin' is not an address, at column 1: expected '//', found '/'
    hint: write '//cmd:bin'
    '//cmd' is not an address, at column 6: expected ':' and a target name, found the end
    hint: an address names a target: '//cmd:cmd'
    '//cmd/...' is not an address, at column 7: expected a directory name, found '...'
    '//cmd:' is not an address, at column 7: expected a target name, found the end
    '//cmd//x:bin' is not an address, at column 7: a directory name is missing
    '//cmd/:bin' is not an address, at column 7: a directory name is missing
    '///cmd:bin' is not an address, at column 3: a directory name is missing
    '//cmd/../x:bin' is not an address, at column 7: expected a directory name, found '..'
    '//cmd:a b' is not an address, at column 8: ' ' cannot be part of a target name
    '//cmd:bin@' is not an address, at column 11: expected an argument name, found the end
    '//cmd:bin@os' is not an address, at column 13: expected '=' and a value, found the end
    '//cmd:bin@os=' is not an address, at column 14: expected a value (an empty one is written ""), found the end
    '//cmd:bin@os=a b' is not an address, at column 15: a value that contains ' ' must be quoted
    '//cmd:bin@os="a' is not an address, at column 16: expected a closing '"', found the end
    '//cmd:bin@os="a\q"' is not an address, at column 16: expected one of the escapes \" \\ \n \r \t \u{hex}
    '//cmd:bin@os=a,os=b' is not an address, at column 16: argument 'os' is given twice
    '//cmd:bin@os="a"x' is not an address, at column 17: expected ',', '|' or the end, found 'x'
    '//cmd:bin|' is not an address, at column 11: expected an output name, found the end
    '//cmd:bin|a|b' is not an address, at column 12: expected the end, found '|'
    '//cmd:bin:x' is not an address, at column 10: ':' cannot be part of a target name
    '//größe:a\u{7}b' is not an address, at column 10: '\u{7}' cannot be part of a target name
    "#);
}

#[test]
fn relative_messages_name_the_cure() {
    let mut shown = String::new();
    for (text, current) in [
        ("", "cmd"),
        ("bin", "cmd"),
        ("sub:bin", "cmd"),
        ("../../x:bin", "cmd"),
        ("./a b:bin", "cmd"),
        ("./x", "cmd"),
        ("..", "cmd"),
        (".../x:y", "cmd"),
    ] {
        shown += &message(Address::parse_relative(text, current).unwrap_err());
        shown.push('\n');
    }
    insta::assert_snapshot!(shown, @"
    '' is not an address, at column 1: expected '//', ':', './' or '../', found the end
    'bin' is not an address, at column 1: expected '//', ':', './' or '../', found 'b'
    hint: write ':bin' for a target of this package
    'sub:bin' is not an address, at column 1: expected '//', ':', './' or '../', found 's'
    hint: write './sub:bin' or '//sub:bin'
    '../../x:bin' is not an address, at column 4: '..' leaves the workspace
    './a b:bin' is not an address, at column 4: ' ' cannot be part of a directory name
    './x' is not an address, at column 4: expected ':' and a target name, found the end
    hint: an address names a target: './x:x'
    '..' is not an address, at column 3: expected ':' and a target name, found the end
    '.../x:y' is not an address, at column 1: expected '//', ':', './' or '../', found '.'
    ");
}

#[test]
fn a_made_address_is_checked() {
    assert_eq!(Address::new("a/b", "c").unwrap().to_string(), "//a/b:c");
    insta::assert_snapshot!(Address::new("a/b", "c d").unwrap_err(), @"'//a/b:c d' is not an address, at column 8: ' ' cannot be part of a target name");
    insta::assert_snapshot!(Address::new("a/../b", "c").unwrap_err(), @"'//a/../b:c' is not an address, at column 5: expected a directory name, found '..'");
    assert!(Address::new("a", "").is_err());
    assert!(Address::new("a", "b@c").is_err());
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.+@(!-]{1,6}".prop_map(String::from),
        any::<String>().prop_map(|s| s.chars().filter(|c| is_segment_char(*c)).collect()),
    ]
    .prop_filter("a segment", |s| {
        !s.is_empty() && !matches!(s.as_str(), "." | ".." | "...")
    })
}

pub(crate) fn address() -> impl Strategy<Value = Address> {
    let name = || proptest::collection::vec(segment(), 1..3).prop_map(|s| s.join("/").replace('@', "a"));
    let value = prop_oneof![any::<String>(), "[ -~]{0,8}".prop_map(String::from)];
    (
        proptest::collection::vec(segment(), 0..3),
        name(),
        proptest::collection::btree_map(segment(), value, 0..3),
        proptest::option::of(name()),
    )
        .prop_map(|(package, name, args, output)| Address {
            package: package.join("/"),
            name,
            args,
            output,
        })
}

proptest! {
    #[test]
    fn printing_and_parsing_is_the_identity(address in address()) {
        let text = address.to_string();
        let again = Address::parse(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&again, &address);
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn what_parses_prints_and_parses_to_the_same(text in r#"//[a-b/.@]{0,4}:[a-b@="\\,|n]{0,12}"#) {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>(), noise in "[/:.@|=,\"\\\\a é]{0,16}", package in "[a/@]{0,4}") {
        for text in [&text, &noise] {
            let _ = Address::parse(text).map_err(|e| e.to_string());
            let _ = Address::parse_relative(text, &package).map_err(|e| e.to_string());
        }
    }
}
