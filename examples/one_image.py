"""The map of one image as a picture: red where the image is brighter than its healthy version.

The networks are those that come with the project, which know synthetic ellipses alone.

python -m examples.one_image IMAGE OUTPUT.png
"""

import sys

from matplotlib.image import imsave

import descargan

if len(sys.argv) != 3:
    sys.exit(__doc__)
image, output = sys.argv[1:]
net = descargan.load("save_nets/pretrained")
for path, found in net.predict(image):
    imsave(output, found.difference, cmap="RdBu_r", vmin=-1, vmax=1)
    print(f"{path}: P(disease) = {found.probability:.2f}, anomaly score {found.score:.4f}")
    if found.mask is not None:
        print(f"{found.mask.mean():.1%} of its pixels are over the threshold of the run")
    if found.unlike_training:
        print("warning: it is unlike the images trained on, so all of this means nothing")
