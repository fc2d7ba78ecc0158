use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Error, format};

fn formatted(text: &str) -> String {
    let once = format(text).unwrap();
    assert_eq!(format(&once).as_ref(), Ok(&once), "twice is not once");
    once
}

#[test]
fn a_build_file_gets_its_form() {
    let text = r#"
load( "//rules/c.star" , 'c_object','c_binary' )
# A program.
target( name='hello',driver = "bash",
  run = [ 'echo hi' , "it's" ],   # why
  deps=["//a:b",
     '//c:d'   # last
  ],
  out="hello.txt"
)



x=[n*2 for n in  range( 3 ) if n!=1]
y = {'a':1,"b" : -2}
z = x [1:2] + x[-1 :]
"#;
    insta::assert_snapshot!(formatted(text), @r#"
    load("//rules/c.star", "c_object", "c_binary")
    # A program.
    target(name = "hello", driver = "bash",
        run = ["echo hi", "it's"],  # why
        deps = ["//a:b",
            "//c:d",  # last
        ],
        out = "hello.txt",
    )


    x = [n * 2 for n in range(3) if n != 1]
    y = {"a": 1, "b": -2}
    z = x[1:2] + x[-1:]
    "#);
}

#[test]
fn blocks_are_indented_and_comments_stay_in_them() {
    let text = "
def f(a,*args,b = 1,**kw) :
  # first
  if a and not(b) :
      return lambda x,y=2:x+y   
      # in the branch
  # after the branch
  for i in args:
        print(i) ; g(-i, *args, **kw)

  return {
    'a':1
    # nothing else
  }
# outside
f(
    1)
";
    insta::assert_snapshot!(formatted(text), @r#"
    def f(a, *args, b = 1, **kw):
        # first
        if a and not (b):
            return lambda x, y = 2: x + y
            # in the branch
        # after the branch
        for i in args:
            print(i); g(-i, *args, **kw)

        return {
            "a": 1,
            # nothing else
        }
    # outside
    f(
        1)
    "#);
}

#[test]
fn what_would_change_its_meaning_stays() {
    for text in [
        "a = (\n    1\n)\n",
        "a = b[\n    1\n]\n",
        "a = [\n    x\n    for x in y\n]\n",
        "f(\n    *args\n)\n",
        "a = 'say \"no\"'\n",
        "a = 'tab\\t'\n",
        "a = '''three\n  lines\n'''\n",
        "a = f\"{x} and {y}\"\n",
        "a = 1 + \\\n    2\n",
        "a = [lambda x: x, b[1:2]]\n",
        "def f(x, *, y = 1):\n    pass\n",
        "a = x if y else -z\n",
        "a = \"b\" \"c\"\n",
        "# only a comment\n",
        "",
    ] {
        match format(text) {
            Ok(same) => assert_eq!(same, text),
            // Not all of these are allowed in Starlark; those must not be touched either.
            Err(error) => assert!(matches!(error, Error::Syntax { .. }), "{text}: {error:?}"),
        }
    }
}

#[test]
fn what_is_no_starlark_is_refused_with_its_place() {
    let Err(Error::Syntax { place, .. }) = format("target(\n  name = = 1)\n") else {
        panic!()
    };
    assert_eq!(place, Some((2, 10)));
}

#[test]
fn line_ends_of_other_systems_become_ours() {
    assert_eq!(formatted("\u{feff}a = 1\r\nb = 2"), "a = 1\nb = 2\n");
}

proptest! {
    /// Whatever is Starlark has a form that means the same, and the form of that form is itself.
    #[test]
    fn any_text_is_formatted_once_or_refused(words in vec(select(WORDS), 1..24)) {
        let text: String = words.concat();
        match format(&text) {
            Ok(once) => prop_assert_eq!(format(&once), Ok(once)),
            Err(Error::Changed) => prop_assert!(false, "the meaning of {:?} would change", text),
            Err(Error::Syntax { .. }) => {}
        }
    }
}

const WORDS: &[&str] = &[
    "f",
    "x ",
    "1",
    "'s'",
    "\"t\"",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "f(",
    "[x",
    "x=",
    ",",
    ", ",
    ":",
    "=",
    " = ",
    "-",
    "*",
    "**",
    "==",
    ".x",
    "lambda ",
    "lambda x:",
    " for x in ",
    " if ",
    " else ",
    " and ",
    "not ",
    "def f(",
    "):\n    ",
    "return ",
    "# c\n",
    "\n",
    "\n",
    "\n    ",
    "\n        # d\n",
    "\\\n",
    " ",
    ";",
    "pass",
    "load('a', 'b')",
];
