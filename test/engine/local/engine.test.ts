/** @file The local engine runs what every engine runs. */
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import { engineSuite, type MakeEngine } from '../suite.ts';

/** A local engine behind the suite's interface. */
const makeLocalEngine: MakeEngine = async (compiled, update) => {
	const engine = await createLocalEngine(compiled, update ? { update } : {});
	return {
		iterate: async (feeds) => (await engine.run('iteration', feeds)).fetched,
		read: async (device, bank, role) => engine.bank(device, bank, role).slice(),
		write: async (device, bank, role, values) => engine.bank(device, bank, role).set(values),
		close: () => engine.close(),
	};
};

engineSuite('local engine', makeLocalEngine);
