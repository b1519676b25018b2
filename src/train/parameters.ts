/** @file Parameters by name: their first values, and their way in and out of the devices' banks. */
import { randomStream } from '../core/random.ts';
import { sizeOf } from '../core/tensor.ts';
import type { LocalEngine } from '../engine/local/engine.ts';
import type { Parameter } from '../nn/context.ts';
import { positionSinusoid2d } from '../nn/embeddings.ts';
import type { BankLayout, LaidParameter } from '../program/layout.ts';

/** First values of a parameter: a function of the seed and its name, so that stages and devices do not matter. */
export function initialValues({ name, shape, init }: Parameter, seed: number): Float32Array {
	const out = new Float32Array(sizeOf(shape));
	const stream = randomStream(seed, `init.${name}`);
	switch (init.kind) {
		case 'zeros':
			return out;
		case 'ones':
			return out.fill(1);
		case 'constant':
			return out.fill(init.value);
		case 'normal':
			stream.normals(out, 0);
			for (let i = 0; i < out.length; i++) out[i]! *= init.std;
			return out;
		case 'uniform':
		case 'xavier_uniform': {
			const bound = init.kind === 'uniform' ? init.bound : Math.sqrt(6 / (init.fanIn + init.fanOut));
			stream.uniforms(out, 0);
			for (let i = 0; i < out.length; i++) out[i] = (2 * out[i]! - 1) * bound;
			return out;
		}
		case 'position_sinusoid_2d':
			return positionSinusoid2d(init.channels, init.side, init.side, init.baseSize).data;
	}
}

/** Which of a bank's buffers. */
export type BankRole = Parameters<LocalEngine['bank']>[2];

/** A parameter in the banks of an engine: the same on every replica. */
export interface PlacedParameter extends LaidParameter {
	/** Views of one role's elements on each device that holds the parameter. What is not trained has no moments: its values stand for its average, too. */
	views(role: BankRole): readonly Float32Array[];
}

/** Every parameter of a compiled run, with its places. */
export function placedParameters(engine: Pick<LocalEngine, 'program' | 'bank'>, banks: readonly BankLayout[]): PlacedParameter[] {
	return banks.flatMap((layout) => {
		const devices = engine.program.devices.filter((d) => d.banks.some((b) => b.id === layout.bank)).map((d) => d.device);
		return layout.parameters.map((p) => ({
			...p,
			views(role: BankRole) {
				const own = p.trained ? role : 'parameter';
				return devices.map((d) => engine.bank(d, layout.bank, own).subarray(p.offset, p.offset + sizeOf(p.shape)));
			},
		}));
	});
}
