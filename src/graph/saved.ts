/** @file Which forward values to keep for the backward pass: a minimum cut in bytes, where cheap operators may run again. */
import { byteSize } from '../core/tensor.ts';
import { minimumCut } from './flow.ts';
import { ops } from './ops/index.ts';
import { type Graph, type ValueName, valueNamed } from './types.ts';

/**
 * 'views': only operators that move no data run again. 'cheap': single passes over memory (norms, activations, modulation) do too. 'full': everything may,
 * so that a stage keeps little more than its inputs (gradient checkpointing).
 */
export type Recompute = 'views' | 'cheap' | 'full';

/**
 * The values the backward part of `joint` needs at hand: of forward values (`forward`: names made by forward nodes) and
 * graph inputs other than `free`, the set with the fewest bytes from which the rest can be computed again.
 * `outputs` are the gradients wanted.
 */
export function chooseSaved(
	joint: Graph,
	forward: ReadonlySet<ValueName>,
	outputs: readonly ValueName[],
	free: ReadonlySet<ValueName>,
	recompute: Recompute,
): ValueName[] {
	const needed = neededBy(joint, forward, outputs, free);
	const vertices = new Map<string, number>();
	const vertex = (key: string) => {
		let id = vertices.get(key);
		if (id === undefined) {
			id = vertices.size + 2;
			vertices.set(key, id);
		}
		return id;
	};
	const edges: { from: number; to: number; capacity: number }[] = [];
	const candidates: ValueName[] = [];
	const visit = (name: ValueName) => {
		candidates.push(name);
		// One byte more for computed values: at equal size, keep the graph input, which is there anyway.
		edges.push({
			from: vertex(`in ${name}`),
			to: vertex(`out ${name}`),
			capacity: byteSize(valueNamed(joint, name)) + (forward.has(name) ? 1 : 0),
		});
	};
	for (const name of joint.inputs) {
		if (free.has(name)) continue;
		visit(name);
		edges.push({ from: 0, to: vertex(`in ${name}`), capacity: Number.POSITIVE_INFINITY });
	}
	for (const node of joint.nodes) {
		if (!node.outputs.some((o) => forward.has(o))) continue;
		const { cost } = ops[node.op];
		const again = recompute === 'full' || cost === 'view' || (recompute === 'cheap' && cost === 'cheap');
		for (const o of node.outputs) {
			visit(o);
			if (!again) edges.push({ from: 0, to: vertex(`in ${o}`), capacity: Number.POSITIVE_INFINITY });
			else {
				for (const i of node.inputs) {
					if (i === '' || free.has(i) || joint.constants.has(i)) continue;
					edges.push({ from: vertex(`out ${i}`), to: vertex(`in ${o}`), capacity: Number.POSITIVE_INFINITY });
				}
			}
		}
	}
	for (const name of needed) edges.push({ from: vertex(`out ${name}`), to: 1, capacity: Number.POSITIVE_INFINITY });
	const reachable = minimumCut(vertices.size + 2, edges, 0, 1);
	return candidates.filter((name) => reachable[vertex(`in ${name}`)] && !reachable[vertex(`out ${name}`)]);
}

/** Forward values and inputs that backward nodes read directly. */
function neededBy(
	joint: Graph,
	forward: ReadonlySet<ValueName>,
	outputs: readonly ValueName[],
	free: ReadonlySet<ValueName>,
): Set<ValueName> {
	const inputs = new Set(joint.inputs);
	const wanted = new Set<ValueName>(outputs);
	const needed = new Set<ValueName>();
	const note = (name: ValueName) => {
		if (forward.has(name) || (inputs.has(name) && !free.has(name))) needed.add(name);
		else wanted.add(name);
	};
	for (const o of outputs) note(o);
	for (let k = joint.nodes.length - 1; k >= 0; k--) {
		const node = joint.nodes[k]!;
		if (node.outputs.some((o) => forward.has(o)) || !node.outputs.some((o) => wanted.has(o))) continue;
		for (const i of node.inputs) if (i !== '') note(i);
	}
	return needed;
}
