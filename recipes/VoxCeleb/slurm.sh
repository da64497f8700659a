#!/bin/bash
# Train on one node with eight GPUs, over as many time limits as it takes.
#
#   sbatch slurm.sh hparams/ecapa_c512_q_margin.yaml --prepared=results/voxceleb/prepared \
#       --noise_folder=/corpora/musan --rir_folder=/corpora/RIRS_NOISES/simulated_rirs
#
# Submit from recipes/VoxCeleb, with the Python environment active (sbatch passes it on). Preparation needs no GPU,
# verification one:
#
#   sbatch --cpus-per-task=32 --mem=32G --time=24:00:00 --wrap="python prepare.py --voxceleb2 /corpora/voxceleb2 \
#       --voxceleb1 /corpora/voxceleb1 --train vox2 --trials veri_test2.txt list_test_all2.txt list_test_hard2.txt \
#       --workers 32 --output results/voxceleb/prepared"
#   sbatch --gpus=1 --cpus-per-task=9 --mem=32G --time=12:00:00 --wrap="python verify.py \
#       results/ecapa_c512_q_margin/1234 --prepared results/voxceleb/prepared \
#       --trials veri_test2.txt list_test_all2.txt list_test_hard2.txt --device cuda"
#
#SBATCH --job-name=alpha_sv
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=72
#SBATCH --mem=256G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.out

set -euo pipefail
export OMP_NUM_THREADS=1  # the loader's workers are the parallelism
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-72}"  # srun does not take it over by itself since SLURM 22.05

# Five minutes before the limit SLURM sends USR1 to this script: stop the training and queue the job again. The same
# command then continues from the last checkpoint (ckpt_interval_minutes apart), on the same trajectory.
requeue() {
    echo "time limit: queued again"
    trap '' USR1 TERM
    kill -TERM "$training" 2>/dev/null || true
    wait "$training" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap requeue USR1

srun --kill-on-bad-exit=1 torchrun --standalone --nproc_per_node="${SLURM_GPUS_ON_NODE:-8}" train.py --precision=bf16 "$@" &
training=$!
wait "$training"
