//! Answers challenges without a JavaScript engine: reads the printed function and computes its lanes.
//!
//! It knows the one shape that a node prints (tapes, a fold function, one assignment for each operation, eight lanes) and
//! in the assignments exactly the expressions that it prints. Anything else is an error: a load test that answered what it
//! did not understand would measure refusals.

mod expression;

use expression::Machine;

/// What stands before the assignments: the end of the fold function.
const BODY_START: &str = "return x^t.length}";
/// What stands behind them.
const BODY_END: &str = "l=[v0";
/// Tapes whose words are printed; the origin's, which the page reads, comes after them.
const PRINTED_TAPES: [&str; 4] = [",t0=[", ",t1=[", ",t2=[", ",t3=["];

/// The eight lanes that the function `source` returns on a page of `origin`.
///
/// # Errors
/// If the source is not of the shape that is known here.
pub(crate) fn solve(source: &str, origin: &str) -> Result<[i32; 8], String> {
    let (declarations, rest) = source.split_once(BODY_START).ok_or("a program without a fold function")?;
    let (body, _) = rest.split_once(BODY_END).ok_or("a program without lanes")?;
    let mut machine = Machine::new(tapes(declarations, origin)?);
    for statement in body.split_terminator(';') {
        machine.assign(statement).map_err(|fault| format!("{fault} in {statement:?}"))?;
    }
    Ok(machine.lanes())
}

fn tapes(declarations: &str, origin: &str) -> Result<[Vec<i32>; 5], String> {
    let mut tapes = [const { Vec::new() }; 5];
    for (tape, name) in tapes.iter_mut().zip(PRINTED_TAPES) {
        let (_, after) = declarations.split_once(name).ok_or("a program without its tapes")?;
        let (words, _) = after.split_once(']').ok_or("a tape without an end")?;
        *tape = words.split_terminator(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| "a tape with no number")?;
    }
    tapes[4] = origin.bytes().map(i32::from).collect();
    Ok(tapes)
}

#[cfg(test)]
mod tests {
    use countersign::challenge::{Constants, PageOrigin, Shape, Tapes, evaluate, generate, print};
    use countersign_node_proto::ConnectionId;

    use super::*;

    /// The frame that a node prints around the assignments.
    fn program(assignments: &str) -> String {
        format!(
            "function(){{\"use strict\";var o=String(location.origin),t4=[],i,c,l,k=\"\",t0=[1,-2],t1=[],t2=[3],t3=[],v0=0;\
             function f(x,t,n,m){{for(var j=0;j<t.length;j++)x=Math.imul((x<<n|x>>>(32-n))^t[j],m);return x^t.length}}\
             {assignments}l=[v0,v1,v2,v3,v4,v5,v6,v7];return{{lanes:l}}}}"
        )
    }

    fn first_lane(assignments: &str) -> Result<i32, String> {
        solve(&program(assignments), "ab").map(|lanes| lanes[0])
    }

    fn check(assignments: &str, expected: i32) {
        assert_eq!(first_lane(assignments), Ok(expected), "{assignments}");
    }

    #[test]
    fn every_printed_expression_is_computed_as_javascript_does() {
        check("v0=(-2147483648);", i32::MIN);
        check("v1=(-2147483648);v0=(-v1)|0;", i32::MIN);
        check("v1=7;v0=~v1;", -8);
        check("v1=1;v0=Math.clz32(v1);", 31);
        check("v0=Math.clz32(v1);", 32);
        check("v1=2147483647;v0=(v1+v1)|0;", -2);
        check("v1=(-2147483648);v2=1;v0=(v1-v2)|0;", i32::MAX);
        check("v1=2147483647;v0=Math.imul(v1,v1);", 1);
        check("v1=65537;v0=Math.imul(v1,(-3));", -196_611);
        check("v1=12;v2=10;v0=v1^v2;", 6);
        check("v1=12;v2=10;v0=v1&v2;", 8);
        check("v1=12;v2=10;v0=v1|v2;", 14);
        check("v1=(-1);v0=v1<v2?1:0;", 1);
        check("v1=(-1);v0=(v1>>>0)<(v2>>>0)?1:0;", 0);
        check("v1=5;v0=v1===v2?1:0;", 0);
        check("v0=v1===v2?1:0;", 1);
        check("v1=3;v2=4;v0=v3!==0?v1:v2;", 4);
        check("v1=3;v2=4;v0=v1!==0?v1:v2;", 3);
        check("v1=(-1);v0=v1<<31;", i32::MIN);
        check("v1=(-8);v0=v1>>1;", -4);
        check("v1=(-8);v0=(v1>>>1)|0;", 2_147_483_644);
        check("v1=(-2147483647);v0=(v1<<1|v1>>>31)|0;", 3);
        check("v1=(-1);v0=v1^(v1>>>4);", -268_435_456);
    }

    #[test]
    fn folds_run_over_printed_tapes_and_the_origin() {
        // x = imul(rotl(0, 1) ^ 3, 5) = 15, then ^ 1 word.
        check("v0=f(v0,t2,1,5);", 14);
        check("v0=9;v0=f(v0,t1,1,5);", 9);
        // 97 * 3 = 291; imul(rotl(291, 8) ^ 98, 3) = (74496 ^ 98) * 3, then ^ 2 words.
        check("v0=f(v0,t4,8,3);", ((74_496 ^ 98) * 3) ^ 2);
    }

    #[test]
    fn solver_agrees_with_the_node_on_what_it_prints() {
        let id = ConnectionId::from_bytes([0xfe; 16]);
        let page = PageOrigin::of_handshake(Some("https://load.example")).unwrap();
        for seed in 0..200_u8 {
            let (server_nonce, client_nonce) = ([seed; 32], [!seed; 32]);
            let tapes = Tapes {
                server_nonce: &server_nonce,
                client_nonce: (seed % 2 == 0).then_some(&client_nonce),
                connection: &id,
                thumbprint: None,
                origin: page.tape(),
                file: None,
            };
            let program = generate(&[seed; 32], Shape::new(128, Constants::Uniform).unwrap()).unwrap();
            let expected = evaluate(&program, &tapes).unwrap();
            assert_eq!(solve(&print(&program, &tapes, &page), page.tape()), Ok(*expected.values()), "seed {seed}");
        }
    }

    #[test]
    fn what_no_node_prints_is_refused() {
        for odd in ["v0=alert(1);", "v32=1;", "v0=v1 v2;", "v0=(1;", "x=1;", "v0=;", "v0=f(v0,t5,1,3);", "v0=99999999999;"] {
            assert!(first_lane(odd).is_err(), "{odd}");
        }
        assert!(solve("function(){}", "").is_err());
    }
}
