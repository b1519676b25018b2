/** @file Maximum flow by Dinic's algorithm, for minimum cuts. */

export interface FlowEdge {
	readonly from: number;
	readonly to: number;
	readonly capacity: number;
}

/** Which of `count` vertices stay on `source`'s side of a minimum cut towards `sink`. Capacities may be infinite. */
export function minimumCut(count: number, edges: readonly FlowEdge[], source: number, sink: number): boolean[] {
	// Infinity minus infinity is not a number: a bound above every finite sum stands for it.
	const finite = edges.reduce((sum, e) => (Number.isFinite(e.capacity) ? sum + e.capacity : sum), 1);
	const to: number[] = [];
	const rest: number[] = [];
	const out: number[][] = Array.from({ length: count }, () => []);
	for (const e of edges) {
		out[e.from]!.push(to.length);
		to.push(e.to);
		rest.push(Number.isFinite(e.capacity) ? e.capacity : finite);
		out[e.to]!.push(to.length);
		to.push(e.from);
		rest.push(0);
	}
	const level = new Int32Array(count);
	const layer = (): boolean => {
		level.fill(-1);
		level[source] = 0;
		const queue = [source];
		for (let head = 0; head < queue.length; head++) {
			const v = queue[head]!;
			for (const e of out[v]!) {
				if (rest[e]! > 0 && level[to[e]!]! < 0) {
					level[to[e]!] = level[v]! + 1;
					queue.push(to[e]!);
				}
			}
		}
		return level[sink]! >= 0;
	};
	const augment = (next: Int32Array): boolean => {
		// Walks with an explicit stack: graphs of deep networks would overflow the call stack.
		const path: number[] = [];
		let v = source;
		for (;;) {
			if (v === sink) {
				const amount = path.reduce((least, e) => Math.min(least, rest[e]!), Number.POSITIVE_INFINITY);
				for (const e of path) {
					rest[e]! -= amount;
					rest[e ^ 1]! += amount;
				}
				return true;
			}
			const options = out[v]!;
			let moved = false;
			while (next[v]! < options.length) {
				const e = options[next[v]!]!;
				if (rest[e]! > 0 && level[to[e]!] === level[v]! + 1) {
					path.push(e);
					v = to[e]!;
					moved = true;
					break;
				}
				next[v]!++;
			}
			if (moved) continue;
			const back = path.pop();
			if (back === undefined) return false;
			v = to[back ^ 1]!;
			next[v]!++;
		}
	};
	while (layer()) {
		const next = new Int32Array(count);
		while (augment(next)) {
			// Each call pushes one blocking path.
		}
	}
	return Array.from(level, (l) => l >= 0);
}
