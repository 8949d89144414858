//! An interactive shell in a pseudo-terminal, made by `script`.

use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Keys that clear the line.
const CLEAR: &str = "\u{15}";
/// Printed when the shell reads keys. Before that the terminal itself would take them.
const PROMPT: &str = "%prompt% ";

pub struct Terminal {
    shell: Child,
    output: BufReader<ChildStdout>,
}

impl Terminal {
    /// A Bash with these completions.
    pub fn bash(scripts: &[PathBuf]) -> Self {
        let mut script = Command::new("script");
        script.args(["-q", "-c", "bash --norc --noprofile -i", "/dev/null"]);
        script.env("TERM", "dumb").env_remove("HISTFILE").env_remove("PROMPT_COMMAND");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = script.spawn().expect("script");
        let output = BufReader::new(shell.stdout.take().expect("a pipe"));
        let mut terminal = Self { shell, output };
        for setting in [
            "show-all-if-ambiguous on",
            "page-completions off",
            "completion-query-items 0",
            "enable-bracketed-paste off",
        ] {
            terminal.put(&format!("bind 'set {setting}'\n"));
        }
        terminal.put(&format!("PS1='{PROMPT}'; stty cols 400\n"));
        for script in scripts {
            terminal.put(&format!("source '{}'\n", script.display()));
        }
        terminal.until("ready");
        terminal
    }

    fn put(&mut self, keys: &str) {
        let input = self.shell.stdin.as_mut().expect("a pipe");
        input.write_all(keys.as_bytes()).and_then(|()| input.flush()).expect("the shell runs");
    }

    /// Has the shell print a word and waits for its next prompt; returns all output up to there.
    fn until(&mut self, word: &str) -> String {
        // In two parts, so that the echo of the command is not taken for its output.
        let (first, second) = word.split_at(1);
        self.put(&format!("echo ={first}''{second}=\n"));
        let (mut text, end) = (Vec::new(), format!("={word}=\r\n{PROMPT}"));
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let more = self.output.read(&mut byte).expect("readable");
            assert!(more == 1, "the shell ended: {}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Output of pressing Tab twice behind a line.
    pub fn complete(&mut self, line: &str) -> String {
        self.put(&format!("{line}\t\t{CLEAR}"));
        self.until("done")
    }
}

/// True if the shell printed the word among others, or completed the line with it.
pub fn offers(text: &str, line: &str, word: &str) -> bool {
    let begun = line.rsplit(' ').next().unwrap_or_default();
    let completed = format!("{}{word} ", line.strip_suffix(begun).unwrap_or(line));
    text.contains(&completed) || text.split_whitespace().any(|offered| offered == word)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // At the end of its input `script` ends, and the shell with it.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
