use std::iter::repeat_n;

/// Deepest nesting of parentheses; a node prints two.
const DEPTH_MAX: usize = 8;

/// Registers, tapes, and the expressions over them. A value is an `i64` that holds an int32 or a uint32, as in JavaScript.
pub(super) struct Machine {
    registers: [i32; 32],
    tapes: [Vec<i32>; 5],
}

/// Operators by falling priority, each level with its spellings, the longer before their prefixes.
const LEVELS: [&[&str]; 7] = [&["|"], &["^"], &["&"], &["===", "!=="], &["<"], &["<<", ">>>", ">>"], &["+", "-"]];

impl Machine {
    /// All registers zero.
    pub(super) fn new(tapes: [Vec<i32>; 5]) -> Self {
        Self { registers: [0; 32], tapes }
    }

    /// Runs one `v<n>=<expression>`.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn assign(&mut self, statement: &str) -> Result<(), &'static str> {
        let (target, expression) = statement.split_once('=').ok_or("no assignment")?;
        let target = register_number(target.strip_prefix('v').ok_or("no register")?)?;
        let mut parser = Parser { machine: self, rest: expression, depth: 0 };
        let value = parser.conditional()?;
        if !parser.rest.is_empty() {
            return Err("text behind an expression");
        }
        self.registers[target] = to_int32(value);
        Ok(())
    }

    /// Registers 0 to 7.
    pub(super) fn lanes(&self) -> [i32; 8] {
        std::array::from_fn(|lane| self.registers[lane])
    }

    fn fold(&self, start: i64, tape: usize, by: i64, odd: i64) -> Result<i64, &'static str> {
        let tape = self.tapes.get(tape).ok_or("no such tape")?;
        let by = u32::try_from(by).map_err(|_| "no rotation")?;
        let step = |x: i32, word: &i32| (x.rotate_left(by) ^ word).wrapping_mul(to_int32(odd));
        let len = i32::try_from(tape.len()).map_err(|_| "a tape too long")?;
        Ok(i64::from(tape.iter().fold(to_int32(start), step) ^ len))
    }
}

/// One expression on its way from left to right.
struct Parser<'a> {
    machine: &'a Machine,
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    /// `<binary>` or `<binary>?<binary>:<binary>`.
    fn conditional(&mut self) -> Result<i64, &'static str> {
        let condition = self.binary(0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let yes = self.binary(0)?;
        self.expect(":")?;
        let no = self.binary(0)?;
        Ok(if condition == 0 { no } else { yes })
    }

    /// A chain of operators of this level or a higher one, to the left.
    fn binary(&mut self, level: usize) -> Result<i64, &'static str> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.sees(operator)) {
            self.rest = &self.rest[operator.len()..];
            left = apply(operator, left, self.binary(level + 1)?);
        }
        Ok(left)
    }

    /// `<` is no operator where it begins `<<`.
    fn sees(&self, operator: &str) -> bool {
        self.rest.starts_with(operator) && !(operator == "<" && self.rest.starts_with("<<"))
    }

    fn unary(&mut self) -> Result<i64, &'static str> {
        if self.eat("-") {
            return Ok(-self.primary()?);
        }
        if self.eat("~") {
            return Ok(i64::from(!to_int32(self.primary()?)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<i64, &'static str> {
        if self.eat("(") {
            return self.nested(|parser| parser.conditional());
        }
        if self.eat("v") {
            return Ok(i64::from(self.machine.registers[register_number(self.digits()?)?]));
        }
        if self.eat("Math.clz32(") {
            let [value] = self.arguments()?;
            return Ok(i64::from(to_int32(value).leading_zeros()));
        }
        if self.eat("Math.imul(") {
            let [a, b] = self.arguments()?;
            return Ok(i64::from(to_int32(a).wrapping_mul(to_int32(b))));
        }
        if self.eat("f(") {
            let [start, tape, by, odd] = self.arguments()?;
            return self.machine.fold(start, usize::try_from(tape).unwrap_or(usize::MAX), by, odd);
        }
        // A tape stands for its number: only the fold function takes one.
        self.eat("t");
        let number: i64 = self.digits()?.parse().map_err(|_| "no number")?;
        if number > i64::from(u32::MAX) { Err("a number out of range") } else { Ok(number) }
    }

    /// So many expressions between commas, and the closing parenthesis.
    fn arguments<const N: usize>(&mut self) -> Result<[i64; N], &'static str> {
        let mut values = [0; N];
        let separators = repeat_n(",", N - 1).chain([")"]);
        for (value, separator) in values.iter_mut().zip(separators) {
            *value = self.binary(0)?;
            self.expect(separator)?;
        }
        Ok(values)
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<i64, &'static str>) -> Result<i64, &'static str> {
        if self.depth == DEPTH_MAX {
            return Err("parentheses too deep");
        }
        self.depth += 1;
        let value = inner(self)?;
        self.depth -= 1;
        self.expect(")")?;
        Ok(value)
    }

    fn digits(&mut self) -> Result<&str, &'static str> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() { Err("no number") } else { Ok(digits) }
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), &'static str> {
        if self.eat(text) { Ok(()) } else { Err("unexpected text") }
    }
}

fn apply(operator: &str, left: i64, right: i64) -> i64 {
    let (a, b) = (to_int32(left), to_int32(right));
    let count = b.cast_unsigned() & 31;
    match operator {
        "|" => i64::from(a | b),
        "^" => i64::from(a ^ b),
        "&" => i64::from(a & b),
        "===" => i64::from(left == right),
        "!==" => i64::from(left != right),
        "<" => i64::from(left < right),
        "<<" => i64::from(a << count),
        ">>>" => i64::from(a.cast_unsigned() >> count),
        ">>" => i64::from(a >> count),
        "+" => left + right,
        _ => left - right,
    }
}

/// `ToInt32` of the language: the low 32 bits, signed.
const fn to_int32(value: i64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "truncation is what ToInt32 does")]
    {
        value as i32
    }
}

fn register_number(digits: &str) -> Result<usize, &'static str> {
    digits.parse().ok().filter(|number| *number < 32).ok_or("no register")
}
