/** @file The searches' random numbers: one stream per problem, so that a filling is a function of its problem. */
import { randomStream } from '../../core/random.ts';

/** Uniform in [0, 1). */
export type Draw = () => number;

/** A whole number of 0 .. n-1. */
export function below(draw: Draw, n: number): number {
	return Math.floor(draw() * n);
}

/** Uniform numbers in [0, 1), the same for the same name: searches must give the same filling every time. */
export function drawsOf(name: string): Draw {
	const stream = randomStream(0, name);
	const drawn = new Float32Array(4096);
	let [step, at] = [0, drawn.length];
	return () => {
		if (at === drawn.length) {
			stream.uniforms(drawn, step++);
			at = 0;
		}
		return drawn[at++]!;
	};
}
