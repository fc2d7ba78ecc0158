//! What the terminal can do: colours, cursor control, width, characters.

use std::io::IsTerminal as _;

use rustix::termios::tcgetwinsize;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How text is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colors: bool,
    unicode: bool,
}

impl Style {
    /// No colours, ASCII only.
    #[cfg(test)]
    pub const fn plain() -> Self {
        Self {
            colors: false,
            unicode: false,
        }
    }

    /// With colours or not, with characters beyond ASCII or not.
    pub const fn new(colors: bool, unicode: bool) -> Self {
        Self { colors, unicode }
    }

    /// Whether characters beyond ASCII are shown.
    pub const fn unicode(self) -> bool {
        self.unicode
    }

    fn paint(self, codes: &str, text: &str) -> String {
        match self.colors {
            true => format!("\x1b[{codes}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// The word before an error.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// The word before a warning.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// The word before advice.
    pub fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What stands out.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What may be overlooked.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// What standard output and standard error are.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Style of standard output.
    pub out: Style,
    /// Style of standard error.
    pub err: Style,
    /// Whether standard error understands cursor control.
    pub cursor: bool,
}

impl Terminal {
    /// Looks at the descriptors and at NO_COLOR, TERM, LC_ALL, LC_CTYPE and LANG as `variable` gives them.
    pub fn detect(choice: ColorChoice, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let unicode = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(set)
            .is_some_and(|locale| {
                let locale = locale.to_ascii_lowercase();
                locale.ends_with("utf-8") || locale.ends_with("utf8")
            });
        let style = |terminal: bool| {
            let colors = match choice {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => terminal && !dumb && set("NO_COLOR").is_none(),
            };
            Style::new(colors, unicode)
        };
        let error_terminal = std::io::stderr().is_terminal();
        Self {
            out: style(std::io::stdout().is_terminal()),
            err: style(error_terminal),
            cursor: error_terminal && !dumb,
        }
    }
}

/// Columns and rows of the terminal at standard error; 80 by 24 where that is unknown.
pub fn size() -> (usize, usize) {
    match tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}
