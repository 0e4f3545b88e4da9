fn main() {
    let i = defend::intruder::Intruder::shipped();
    let r = defend::intruder::Rules::new();
    for l in std::io::stdin().lines() {
        let l = l.unwrap();
        println!("{:.2} {:?} {}", i.score(&l), r.points(&defend::intruder::Normal::new(l.as_bytes())), l);
    }
}
