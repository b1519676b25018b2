/** @file The program as a process, from the build: exit codes, channels, signals, and a small run from training to picture. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const main = join(dist, 'cli', 'main.js');
/** The digits with a model so small that a step takes milliseconds. */
const tiny = [
	'mnist',
	...[
		'model.num_layers=1',
		'model.attention_head_dim=4',
		'train.batch_size=8',
		'sample.steps=2',
		'sample.labels=[1,2]',
		'sample.per_label=1',
	].flatMap((s) => ['--set', s]),
];

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'main-'));
});
afterAll(() => rm(cwd, { recursive: true }));

interface Ended {
	readonly code: number | null;
	readonly out: string;
	readonly err: string;
}

function run(argv: readonly string[], onErr: (child: ChildProcess, text: string) => void = () => {}): Promise<Ended> {
	const child = spawn(process.execPath, [main, ...argv], { cwd, env: { ...process.env, FORCE_COLOR: '', NO_COLOR: '' } });
	let out = '';
	let err = '';
	child.stdout.on('data', (chunk) => {
		out += chunk;
	});
	child.stderr.on('data', (chunk) => {
		err += chunk;
		onErr(child, err);
	});
	return new Promise((resolve, reject) => {
		child.on('error', reject);
		child.on('close', (code) => resolve({ code, out, err }));
	});
}

describe('the program', () => {
	it('answers help without loading what training needs', async () => {
		const { code, out, err } = await run(['--help']);
		expect({ code, err }).toEqual({ code: 0, err: '' });
		expect(out).toContain('train <preset|config.toml>');
		const loaded = [...(await staticImports(main))];
		expect(loaded).toContain(join(dirname(main), 'commands', 'train.js'));
		const outside = loaded.filter((name) => !name.startsWith(dirname(main)));
		expect(outside.map((name) => (name.startsWith('/') ? relative(dist, name) : name)).sort()).toEqual([
			'cac',
			join('core', 'errors.js'),
			join('core', 'units.js'),
		]);
	});

	it('keeps errors off standard output', async () => {
		const { code, out, err } = await run(['train', 'nothing']);
		expect({ code, out }).toEqual({ code: 2, out: '' });
		expect(err).toMatch(/^error: nothing: there is no such preset or file\n/);
	});

	it('ends quietly when its reader has seen enough', async () => {
		const child = spawn(process.execPath, [main, 'doctor'], { cwd });
		let err = '';
		child.stderr.on('data', (chunk) => {
			err += chunk;
		});
		child.stdout.destroy();
		const code = await new Promise((resolve) => child.on('close', resolve));
		expect(code).toBe(1);
		expect(err).not.toContain('EPIPE');
	});
});

/** What is loaded before any command runs: the static imports from `file` on, files as paths and packages as names. */
async function staticImports(file: string, found = new Set<string>()): Promise<Set<string>> {
	if (found.has(file)) return found;
	found.add(file);
	const text = await readFile(file, 'utf8');
	for (const [, name = ''] of text.matchAll(/^(?:import|export) (?:[^;'"()=]*? from )?['"]([^'"]+)['"];/gm)) {
		if (name.startsWith('.')) await staticImports(join(dirname(file), name), found);
		else if (!name.startsWith('node:')) found.add(name);
	}
	return found;
}

describe('a run from training to picture', () => {
	it('trains, stops at an interrupt, resumes, samples and inspects', async () => {
		let sent = false;
		const first = await run(['train', ...tiny, '--set', 'train.max_steps=100000'], (child, text) => {
			if (!sent && /step +\d+\/100000/.test(text)) {
				sent = true;
				child.kill('SIGINT');
			}
		});
		expect(first.code).toBe(130);
		expect(first.err).toMatch(/^training DiTTransformer2DModel on mnist: 100000 steps of 8 images, 2 devices, into runs\/mnist\n/);
		expect(first.err).toContain('finishing this step and saving; Ctrl-C again stops at once');
		expect(first.out).toMatch(/stopped after step \d+ of 100000/);
		const [checkpoint] = await readdir(join(cwd, 'runs/mnist/checkpoints'));
		const stopped = Number(checkpoint!.replace('step-', ''));
		expect(stopped).toBeGreaterThan(0);

		const again = await run(['train', ...tiny, '--set', 'train.max_steps=100000']);
		expect(again.code).toBe(2);
		expect(again.err).toContain('holds a run already');

		const second = await run(['train', ...tiny, '--resume', '--json', '-q', '--set', `train.max_steps=${stopped + 3}`]);
		expect({ code: second.code, err: second.err }).toEqual({ code: 0, err: '' });
		const events = second.out
			.trimEnd()
			.split('\n')
			.map((line) => JSON.parse(line));
		expect(events.filter((e) => e.kind === 'step').map((e) => e.step)).toEqual([stopped + 1, stopped + 2, stopped + 3]);
		expect(events.find((e) => e.kind === 'resumed')).toMatchObject({ step: stopped });
		expect(events.at(-1)).toMatchObject({ kind: 'done', result: { finished: true, pipeline: 'runs/mnist/pipeline' } });

		const picture = await run(['sample', 'runs/mnist', '--labels', '4,7', '--steps', '2', '--output', 'out.png', '--json']);
		expect(picture.code).toBe(0);
		expect(JSON.parse(picture.out)).toMatchObject({ output: 'out.png', images: 8 });
		expect((await readFile(join(cwd, 'out.png'))).subarray(1, 4).toString()).toBe('PNG');

		const inspected = await run(['inspect', 'runs/mnist', '--json']);
		expect(JSON.parse(inspected.out)).toMatchObject({
			kind: 'run',
			finished: true,
			model: { parts: { transformer: { missing: [], unknown: [] } } },
		});
	}, 120_000);
});
