"""The search for a proof or a counterexample: attack, then branch and bound."""
