//! Mistakes of a printer and of an interpreter. A comparison that none of them disturbs compares nothing.

use super::Form;
use super::corpus::Case;

/// A piece of a text, and the mistake that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// In the printed programs, or in the compiled text of the SDK's interpreter.
    pub form: Form,
    /// What it is.
    pub text: &'static str,
    /// What it becomes.
    pub mistake: &'static str,
}

const fn printer(text: &'static str, mistake: &'static str) -> Mutant {
    Mutant { form: Form::Source, text, mistake }
}

const fn interpreter(text: &'static str, mistake: &'static str) -> Mutant {
    Mutant { form: Form::Vm, text, mistake }
}

/// All of them.
pub const MUTANTS: [Mutant; 13] = [
    // Rounds past 2^53.
    printer("Math.imul(", "(function(a,b){return a*b})("),
    // Rounds past 2^53 even where the result is made an integer again.
    printer("Math.imul(", "(function(a,b){return(a*b)|0})("),
    // Keeps the sign.
    printer(">>>", ">>"),
    // Does not wrap.
    printer(")|0;", ");"),
    // Counts something else.
    printer("===", "!=="),
    // Compares with the sign where there is none.
    printer(">>>0)<(", "|0)<("),
    interpreter("Math.imul(", "((a, b) => a * b)("),
    interpreter("Math.imul(", "((a, b) => (a * b) | 0)("),
    interpreter(">>>", ">>"),
    // Takes the wrong one of two.
    interpreter("!== 0 ? x : y", "=== 0 ? x : y"),
    // The words of a tape the wrong way round.
    interpreter("getInt32(4 * word, false)", "getInt32(4 * word, true)"),
    // A fold that forgets the length.
    interpreter(" ^ tape.length", ""),
    interpreter("(x >>> 0) < (y >>> 0)", "x < y"),
];

impl Mutant {
    /// The case with this mistake in its printed text.
    pub(super) fn printed(self, mut case: Case) -> Case {
        if self.form == Form::Source {
            case.source = case.source.replace(self.text, self.mistake);
        }
        case
    }

    /// The interpreter with this mistake in it.
    ///
    /// # Panics
    /// If it does not have the text: the mutant is out of date.
    pub(super) fn compiled(self, interpreter: &str) -> String {
        if self.form == Form::Source {
            return interpreter.to_owned();
        }
        assert!(interpreter.contains(self.text), "the interpreter has no {}", self.text);
        interpreter.replace(self.text, self.mistake)
    }
}
